"""Bases of linear models: functions x (n, D) → Φ (n, d) whose features each have an order.

A polynomial's order is its degree; a Fourier feature's order is its frequency. Prior variances
depend on the order (`bayesgen.features.priors`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import combinations_with_replacement
from typing import Any

import torch
from torch import Tensor

from bayesgen._internal import checks, deprecation
from bayesgen._internal.words import plural
from bayesgen.features.convolutional import ConvolutionalMap

# Largest number of polynomial features; a larger number is taken to be a mistake.
_MOST = 50_000


@dataclass(frozen=True)
class AffineMap:
    """The map u = (x − centre)/half_width of each column, which takes [low, high] to [−1, 1].

    Attributes:
        centre, half_width: centre and half width of each column's range, (D,).
    """

    centre: Tensor
    half_width: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """The inputs x (n, D) in the new coordinates."""
        return (x - self.centre) / self.half_width


@dataclass(frozen=True)
class Features:
    """A basis in which everything that depends on the training inputs is fixed.

    Attributes:
        function: x (n, D) → Φ (n, d).
        orders: order of each feature, (d,), int64.
        map: the affine map applied to the inputs first; None where they are used as given.
        inputs: D, the number of input columns.
        data_dependent: description of what the basis took from the training inputs; "" for nothing.
            A PAC-Bayes bound needs a prior that does not depend on the data.
        basis: the basis that it was made from, where its provenance is read.
    """

    function: Callable[[Tensor], Tensor]
    orders: Tensor
    map: AffineMap | None
    inputs: int
    data_dependent: str = ""
    basis: Basis | None = None

    @property
    def looked(self) -> str:
        """Former name of `data_dependent`; deprecated."""
        deprecation.warn_renamed("features.looked", "features.data_dependent")
        return self.data_dependent

    def __call__(self, x: Any) -> Tensor:
        """Compute the features Φ of x, (n, d).

        Raises:
            ValueError: x has another number of columns; a feature is not finite.
        """
        x = checks.inputs("x", x)
        if x.shape[1] != self.inputs:
            raise ValueError(f"x must have {plural(self.inputs, 'column')}, got {x.shape[1]}")
        Phi = self.function(x if self.map is None else self.map(x))
        wanted = (len(x), len(self.orders))
        if tuple(Phi.shape) != wanted:
            raise ValueError(f"the basis must return shape (n, d) = {wanted}, got {(*Phi.shape,)}")
        bad = ~torch.isfinite(Phi).all(0)
        if bad.any():
            raise ValueError(
                f"features must be finite: order {int(self.orders[bad][0])} overflows for inputs "
                f"up to {float(x.abs().max()):.3g} in size; scale the inputs, or take a basis "
                'that does (kind="legendre")'
            )
        return Phi


class Basis(ABC):
    """A basis before it has seen the training inputs."""

    @abstractmethod
    def on(self, x: Tensor) -> Features:
        """Features fixed to the training inputs x (n, D), with a record of what depends on them."""


class Identity(Basis):
    """The inputs themselves as D features, of orders 0, 1, … D − 1."""

    def on(self, x: Tensor) -> Features:
        """Features of inputs with as many columns as x (n, D)."""
        return Features(_unchanged, torch.arange(x.shape[1]), None, x.shape[1])

    def __repr__(self) -> str:
        return "Identity()"


class Function(Basis):
    """A user's function x (n, D) → (n, d) as d features, of orders 0, 1, … d − 1."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def on(self, x: Tensor) -> Features:
        """Features of the function, after checking its shape on x (n, D)."""
        Phi = self.function(x)
        if not isinstance(Phi, Tensor) or Phi.ndim != 2 or len(Phi) != len(x):
            got = tuple(Phi.shape) if isinstance(Phi, Tensor) else type(Phi).__name__
            raise ValueError(f"basis must return a tensor (n, d) with n = {len(x)}, got {got}")
        return Features(self._copied, torch.arange(Phi.shape[1]), None, x.shape[1])

    def _copied(self, x: Tensor) -> Tensor:
        """The function's features in memory of their own, without autograd graph."""
        return checks.owned(checks.real("basis(x)", self.function(x), like=x))

    def __repr__(self) -> str:
        return f"Function({getattr(self.function, '__name__', self.function)})"


def _powers(u: Tensor, degree: int) -> Tensor:
    return u[..., None] ** torch.arange(degree + 1, device=u.device)


def _legendre(u: Tensor, degree: int) -> Tensor:
    """Legendre polynomials by (j + 1) P_{j+1} = (2j + 1) u P_j − j P_{j−1}."""
    columns = [torch.ones_like(u), u]
    for j in range(1, degree):
        columns.append(((2 * j + 1) * u * columns[j] - j * columns[j - 1]) / (j + 1))
    return torch.stack(columns[: degree + 1], -1)


def _chebyshev(u: Tensor, degree: int) -> Tensor:
    """Chebyshev polynomials by T_{j+1} = 2u T_j − T_{j−1}."""
    columns = [torch.ones_like(u), u]
    for j in range(1, degree):
        columns.append(2 * u * columns[j] - columns[j - 1])
    return torch.stack(columns[: degree + 1], -1)


KINDS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "powers": _powers,
    "legendre": _legendre,
    "chebyshev": _chebyshev,
}


def _unchanged(x: Tensor) -> Tensor:
    return x


def _products(kind: str, degree: int, table: Tensor, u: Tensor) -> Tensor:
    """Products of one-dimensional polynomials with the degrees in the rows of a table (d, D)."""
    single = KINDS[kind](u, degree)  # (n, D, degree + 1)
    Phi = u.new_ones(len(u), len(table))
    for i in range(table.shape[1]):
        Phi = Phi * single[:, i, table[:, i].to(u.device)]
    return Phi


def _waves(j: Tensor, u: Tensor) -> Tensor:
    """A constant, and sines and cosines of the frequencies j of each input."""
    angles = 2 * math.pi * u[:, None, :] * j.to(u)[:, None]  # (n, order, D)
    waves = torch.stack([angles.sin(), angles.cos()], 2)  # ordered by j
    return torch.cat([u.new_ones(len(u), 1), waves.reshape(len(u), -1)], 1)


class Polynomial(Basis):
    """All products of one-dimensional polynomials up to a total degree; the order is that degree.

    Args:
        degree: largest total degree, at least 0.
        kind: "powers" uj, "legendre" Pj or "chebyshev" Tj, normalised as in `numpy.polynomial`.
        input_range: (low, high), numbers or (D,), mapped to [−1, 1]; "data" takes the range of
            each column of the training inputs; None uses the inputs as given. The default is None
            for powers and "data" for the other two kinds, which are orthogonal on [−1, 1].
        interactions: False leaves out products of different inputs (an additive model).
    """

    def __init__(
        self,
        degree: int,
        *,
        kind: str = "powers",
        input_range: Any = "default",
        interactions: bool = True,
    ) -> None:
        self.degree = checks.whole("degree", degree, 0)
        self.kind = checks.one_of("kind", kind, tuple(KINDS))
        default = isinstance(input_range, str) and input_range == "default"
        self.input_range = ("data" if kind != "powers" else None) if default else input_range
        self.interactions = checks.flag("interactions", interactions)

    def on(self, x: Tensor) -> Features:
        """Features with the range and number of columns of the training inputs x (n, D)."""
        D = x.shape[1]
        if not self.interactions:
            exponents = [(i,) * j for j in range(self.degree + 1) for i in range(D if j else 1)]
        else:
            count = math.comb(D + self.degree, D)
            if count > _MOST:
                raise ValueError(
                    f"degree {self.degree} in {D} inputs makes {count:,} features, more than "
                    f"{_MOST:,}; lower it or pass interactions=False"
                )
            exponents = [
                of
                for j in range(self.degree + 1)
                for of in combinations_with_replacement(range(D), j)
            ]
        table = torch.zeros(len(exponents), D, dtype=torch.int64)
        for row, factors in enumerate(exponents):
            for i in factors:
                table[row, i] += 1

        function = partial(_products, self.kind, self.degree, table)
        of_data = isinstance(self.input_range, str)
        data_dependent = "the range of the inputs (pass input_range)" if of_data else ""
        return Features(function, table.sum(1), _map(self.input_range, x), D, data_dependent)

    def __repr__(self) -> str:
        return f"Polynomial(degree={self.degree}, kind={self.kind!r})"


class Fourier(Basis):
    """Features 1, sin(2πjx/T) and cos(2πjx/T) for j = 1 … order and each input; order j.

    In several inputs the model is additive.

    Args:
        order: largest j, at least 0.
        period: T in the units of x, a number or (D,). The default is twice the range of the
            training inputs, so that the function may differ at the two ends of the range.
    """

    def __init__(self, order: int, *, period: Any = None) -> None:
        self.order = checks.whole("order", order, 0)
        self.period = None if period is None else checks.positive("period", period)

    def on(self, x: Tensor) -> Features:
        """Features with the given period, or that of the range of the training inputs x (n, D)."""
        D, j = x.shape[1], torch.arange(1, self.order + 1)
        if self.period is None:
            known = _map("data", x)
            assert known is not None
            known = AffineMap(known.centre, 4 * known.half_width)
        else:
            period = self.period.to(x).expand(D)
            known = AffineMap(torch.zeros_like(period), period)

        orders = torch.cat([torch.zeros(1, dtype=torch.int64), j.repeat_interleave(2 * D)])
        data_dependent = "" if self.period is not None else "the range of the inputs (pass period)"
        return Features(partial(_waves, j), orders, known, D, data_dependent)

    def __repr__(self) -> str:
        return f"Fourier(order={self.order})"


def _fourier_features(W: Tensor, phase: Tensor, u: Tensor) -> Tensor:
    return (2 / W.shape[1]) ** 0.5 * torch.cos(u @ W + phase)


def _relu_features(W: Tensor, phase: Tensor, u: Tensor) -> Tensor:
    return (2 / W.shape[1]) ** 0.5 * torch.relu(u @ W + phase.cos())


# Functions of the weights, the phases and the inputs.
ACTIVATIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "cos": _fourier_features,
    "relu": _relu_features,
}


class RandomFeatures(Basis):
    """Random features: "relu", or "cos" to approximate an RBF kernel (Rahimi & Recht 2007).

    cos: √(2/d) cos(wᵀx/ℓ + b), w ~ N(0, I), b uniform on [0, 2π);
    relu: √(2/d) max(0, wᵀx/ℓ + cos b). All have order 0, because they are exchangeable.

    Args:
        d: number of features, at least 1.
        lengthscale: length-scale ℓ > 0.
        activation: "cos" or "relu".
        seed: seed of the weights, which are drawn in float64 on the CPU for any x.
    """

    def __init__(
        self, d: int, *, lengthscale: float = 1.0, activation: str = "cos", seed: int = 0
    ) -> None:
        self.d = checks.whole("d", d, 1)
        self.lengthscale = checks.positive_number("lengthscale", lengthscale)
        self.activation = checks.one_of("activation", activation, tuple(ACTIVATIONS))
        self.seed = checks.seed(seed)

    def on(self, x: Tensor) -> Features:
        """Features of inputs with as many columns as x (n, D)."""
        generator = torch.Generator().manual_seed(self.seed)
        D = x.shape[1]
        W = torch.randn(self.d, D, generator=generator, dtype=torch.float64).mT / self.lengthscale
        phase = 2 * math.pi * torch.rand(self.d, generator=generator, dtype=torch.float64)
        function = partial(ACTIVATIONS[self.activation], W.to(x), phase.to(x))
        return Features(function, torch.zeros(self.d, dtype=torch.int64), None, D)

    def __repr__(self) -> str:
        return f"RandomFeatures(d={self.d}, activation={self.activation!r})"


class Convolutional(Basis):
    """Random convolutional features of images, d = filters · grid² of them, all of order 0.

    Args:
        filters: number of filters.
        settings: further arguments of `bayesgen.features.convolutional.ConvolutionalMap`.

    Example:
        >>> basis = Convolutional(6, image=(1, 8, 8), patch=3)
        >>> x = torch.rand(5, 64, dtype=torch.float64)
        >>> basis.on(x)(x).shape
        torch.Size([5, 54])
    """

    def __init__(self, filters: int, **settings: Any) -> None:
        self.map = ConvolutionalMap(filters, **settings)

    def on(self, x: Tensor) -> Features:
        """Features of flattened images; only the number of columns is taken from x."""
        orders = torch.zeros(self.map.d, dtype=torch.int64)
        return Features(self.map, orders, None, x.shape[1])

    def __repr__(self) -> str:
        return f"Convolutional({self.map})"


def resolve(basis: Any) -> Basis:
    """Turn an argument into a `Basis`: a basis, None (x itself) or a function x (n, D) → (n, d).

    Raises:
        TypeError: the argument is none of these.
    """
    if basis is None:
        return Identity()
    if isinstance(basis, Basis):
        return basis
    if callable(basis):
        return Function(basis)
    raise TypeError(
        "basis must be None (x itself), a function x (n, D) → (n, d) tensor or a "
        f"bayesgen.features.bases.Basis, got {type(basis).__name__}"
    )


def _map(input_range: Any, x: Tensor) -> AffineMap | None:
    if input_range is None:
        return None
    if isinstance(input_range, str):
        checks.one_of("input_range", input_range, ("data",))
        low, high = x.amin(0), x.amax(0)
        constant = (high <= low).nonzero()
        if len(constant):
            raise ValueError(
                f"column {int(constant[0])} of x is constant ({float(low[constant[0]]):g}) and has "
                "no range to scale to [−1, 1]; leave it out, or pass input_range or period"
            )
    else:
        try:
            low, high = (
                checks.reals("input_range", end).to(x).expand(x.shape[1]) for end in input_range
            )
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(
                'input_range must be None, "data" or (low, high) with numbers or one of each for '
                f"the {plural(x.shape[1], 'column')}, got {input_range!r}"
            ) from None
        if not (high > low).all():
            raise ValueError(f"input_range must have low < high, got {input_range!r}")
    return AffineMap((high + low) / 2, (high - low) / 2)

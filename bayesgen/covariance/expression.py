"""Composed kernels as expressions that are evaluated on pairs of inputs.

θ may have a leading axis of S settings, which are then evaluated together: θ (S, p) gives
covariances (S, m, n), and θ (p,) gives (m, n).

A kernel of gpytorch is translated into sums, products, scales and leaves. The leaves of registered
types share distances (`Pairs`) and are differentiable by autograd. Any other kernel is a leaf that
gpytorch itself evaluates.
"""

from __future__ import annotations

import copy
import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import gpytorch
import torch
from gpytorch.kernels import AdditiveKernel, Kernel, ProductKernel, ScaleKernel
from torch import Tensor

from bayesgen.covariance.distances import decay, least_exponent
from bayesgen.covariance.pairs import Pairs
from bayesgen.kernels.evaluation import dense
from bayesgen.kernels.parameters import Coordinates, constraint_of

# Gives the value of a kernel's parameter, such as "lengthscale", from θ: (..., *shape).
Getter = Callable[[Tensor], Tensor]
# Covariances of all pairs as a function of θ and the pairs.
Values = Callable[[Tensor, Pairs], Tensor]


class KernelLeaf:
    """A kernel of a registered type, with access to its parameters as functions of θ.

    Attributes:
        kernel: the kernel.
        columns: columns of the inputs that it uses.
    """

    def __init__(self, kernel: Kernel, coordinates: Coordinates) -> None:
        self.kernel, self._coordinates = kernel, coordinates
        self.columns = coordinates.columns(kernel)

    def parameter(self, name: str) -> Getter:
        """The value of the parameter `raw_<name>` or `<name>` as a function of θ, in its shape."""
        attribute = f"raw_{name}" if f"raw_{name}" in self.kernel._parameters else name
        raw = self.kernel._parameters[attribute]
        assert raw is not None
        for p in self._coordinates.parameters:
            if p.raw_in(self._coordinates.kernel) is raw:
                return p.natural
        constraint = constraint_of(self.kernel, attribute)
        value = raw.detach() if constraint is None else constraint.transform(raw.detach())
        return lambda theta: value


_LEAVES: dict[type, Callable[[KernelLeaf], Values | None]] = {}


def leaf(
    kernel_type: type,
) -> Callable[[Callable[[KernelLeaf], Values | None]], Callable[[KernelLeaf], Values | None]]:
    """Register a fast evaluation of a kernel type.

    The registered function takes a `KernelLeaf` and returns the covariances as a function of θ and
    `Pairs`, differentiable in θ, or None where this kernel needs gpytorch's evaluation.
    """

    def register(
        make: Callable[[KernelLeaf], Values | None],
    ) -> Callable[[KernelLeaf], Values | None]:
        _LEAVES[kernel_type] = make
        return make

    return register


class Expression(ABC):
    """Covariances as a function of θ and pairs of inputs.

    Attributes:
        by_rows: whether a block of rows can be evaluated alone.
    """

    by_rows: bool

    @abstractmethod
    def __call__(self, theta: Tensor, pairs: Pairs) -> Tensor:
        """Covariances of all pairs, (..., m, n). Differentiable in θ."""


class _Known(Expression):
    by_rows = True

    def __init__(self, values: Values) -> None:
        self.values = values

    def __call__(self, theta: Tensor, pairs: Pairs) -> Tensor:
        return self.values(theta, pairs)


class _Combined(Expression):
    """A sum or a product of kernels."""

    def __init__(
        self, combine: Callable[[Tensor, Tensor], Tensor], parts: Sequence[Expression]
    ) -> None:
        self.combine, self.parts = combine, parts
        self.by_rows = all(p.by_rows for p in parts)

    def __call__(self, theta: Tensor, pairs: Pairs) -> Tensor:
        return reduce(self.combine, (part(theta, pairs) for part in self.parts))


class _Scaled(Expression):
    def __init__(self, scale: Getter, base: Expression) -> None:
        self.scale, self.base, self.by_rows = scale, base, base.by_rows

    def __call__(self, theta: Tensor, pairs: Pairs) -> Tensor:
        return _number(self.scale(theta), theta) * self.base(theta, pairs)


class _Dense(torch.nn.Module):
    """Evaluates a kernel to a dense matrix within one call, as `functional_call` needs."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, x1: Tensor, x2: Tensor | None) -> Any:
        """Covariance matrix k(x1, x2), dense; x2 = None means x2 = x1."""
        return dense(self.kernel, x1, x2)


class Opaque(Expression):
    """Any kernel, evaluated by gpytorch.

    Args:
        kernel: a kernel within the kernel of the coordinates.
        coordinates: the search coordinates.
        outer: columns of the inputs before the kernel's own `active_dims`.
    """

    by_rows = False

    def __init__(self, kernel: Kernel, coordinates: Coordinates, outer: tuple[int, ...]) -> None:
        self.coordinates, self.outer = coordinates, outer
        names = {id(raw): name for name, raw in _Dense(kernel).named_parameters()}
        # A kernel may keep what it computed, so that the original could not be copied any more.
        self.dense = _Dense(copy.deepcopy(kernel))
        self.own = [
            (names[id(raw)], p)
            for p in coordinates.parameters
            if id(raw := p.raw_in(coordinates.kernel)) in names
        ]

    def __call__(self, theta: Tensor, pairs: Pairs) -> Tensor:
        """Covariances of all pairs; see `Expression`."""
        if theta.ndim > 1:
            return torch.stack([self(one, pairs) for one in theta])
        raw = {name: self.coordinates.raw(p, theta) for name, p in self.own}
        x1 = pairs.left(self.outer)
        x2 = None if pairs.x2 is pairs.x1 else pairs.right(self.outer)
        result: Tensor = torch.func.functional_call(self.dense, raw, (x1, x2))
        return result


_COMBINATIONS: dict[type, Callable[[Tensor, Tensor], Tensor]] = {
    AdditiveKernel: operator.add,
    ProductKernel: operator.mul,
}


def expression(kernel: Kernel, coordinates: Coordinates, width: int) -> Expression:
    """Translate a kernel into an expression of θ.

    Args:
        kernel: the kernel.
        coordinates: search coordinates of its free parameters.
        width: number of columns of the inputs.
    """
    return _translate(kernel, coordinates, tuple(range(width)))


def _translate(kernel: Kernel, coordinates: Coordinates, outer: tuple[int, ...]) -> Expression:
    columns = coordinates.columns(kernel)
    kind = type(kernel)
    if kind is ScaleKernel and kernel.raw_outputscale.numel() == 1:
        scale = KernelLeaf(kernel, coordinates).parameter("outputscale")
        return _Scaled(scale, _translate(kernel.base_kernel, coordinates, outer))
    if kind in _COMBINATIONS:
        parts = [_translate(k, coordinates, columns) for k in kernel.kernels]
        return _Combined(_COMBINATIONS[kind], parts)
    make = _LEAVES.get(kind)
    values = None if make is None or kernel.batch_shape else make(KernelLeaf(kernel, coordinates))
    return Opaque(kernel, coordinates, outer) if values is None else _Known(values)


def _number(value: Tensor, theta: Tensor) -> Tensor:
    """A parameter with one entry as (..., 1, 1); one that is kept serves all settings."""
    learnt = value.numel() == math.prod(theta.shape[:-1])
    return value.reshape(*theta.shape[:-1], 1, 1) if learnt else value.reshape(1, 1)


def _scaled_squares(own: KernelLeaf) -> Values:
    """Squared distances divided by the squared length-scale, (..., m, n)."""
    lengthscale, columns = own.parameter("lengthscale"), own.columns
    shared = own.kernel.raw_lengthscale.numel() == 1

    def values(theta: Tensor, pairs: Pairs) -> Tensor:
        if shared:
            return pairs.squares(columns) * lengthscale(theta)[..., :1, :1] ** -2
        return pairs.scaled_squares(columns, lengthscale(theta))

    return values


@leaf(gpytorch.kernels.RBFKernel)
def _rbf(own: KernelLeaf) -> Values:
    q = _scaled_squares(own)
    return lambda theta, pairs: decay(q(theta, pairs) * -0.5)


class _MaternProfile(torch.autograd.Function):
    """Matérn kernel as a function of a = √(2ν) r, r in units of the length-scale."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, nu: float) -> Tensor:
        """Rasmussen & Williams (2006), eq. 4.14–4.17."""
        # Beyond this distance the covariance is negligible, but the decay is not zero.
        a = a.clamp(max=-least_exponent(a.dtype))
        fall = decay(-a)
        if nu == 0.5:
            ctx.save_for_backward(fall.neg())
            return fall
        if nu == 1.5:
            slope = (fall * a).neg_()
            ctx.save_for_backward(slope)
            return fall - slope
        linear = fall * a
        square = (linear * a).div_(3)
        ctx.save_for_backward((square + linear / 3).neg_())
        return fall.add_(linear).add_(square)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Multiply the incoming derivative by that of the profile."""
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope, None


@leaf(gpytorch.kernels.MaternKernel)
def _matern(own: KernelLeaf) -> Values:
    nu, columns = own.kernel.nu, own.columns
    lengthscale, root = own.parameter("lengthscale"), math.sqrt(2 * nu)
    shared = own.kernel.raw_lengthscale.numel() == 1

    def values(theta: Tensor, pairs: Pairs) -> Tensor:
        if shared:
            a = pairs.distances(columns) * (root / lengthscale(theta)[..., :1, :1])
        else:
            q = pairs.scaled_squares(columns, lengthscale(theta))
            a = q.clamp(min=torch.finfo(q.dtype).tiny).sqrt() * root
        result: Tensor = _MaternProfile.apply(a, nu)
        return result

    return values


@leaf(gpytorch.kernels.RQKernel)
def _rational_quadratic(own: KernelLeaf) -> Values:
    q, alpha = _scaled_squares(own), own.parameter("alpha")

    def values(theta: Tensor, pairs: Pairs) -> Tensor:
        a = alpha(theta)[..., None]
        return decay((q(theta, pairs) / (2 * a)).log1p() * -a)

    return values


@leaf(gpytorch.kernels.PeriodicKernel)
def _periodic(own: KernelLeaf) -> Values:
    columns = own.columns
    lengthscale, period = own.parameter("lengthscale"), own.parameter("period_length")

    def values(theta: Tensor, pairs: Pairs) -> Tensor:
        lengths = _by_column(lengthscale(theta), len(columns))
        periods = _by_column(period(theta), len(columns))
        total = None
        for column, length, one in zip(columns, lengths, periods, strict=True):
            wave = (pairs.differences(column) * (math.pi / one)).sin()
            term = wave.square() * (-2 / length)
            total = term if total is None else total + term
        assert total is not None
        return decay(total)

    return values


def _by_column(value: Tensor, count: int) -> list[Tensor]:
    """Entries (..., 1, 1) of a parameter (..., 1, d) for some columns; d = 1 serves them all."""
    wide = value.expand(*value.shape[:-1], count)
    return [wide[..., k : k + 1] for k in range(count)]


@leaf(gpytorch.kernels.CosineKernel)
def _cosine(own: KernelLeaf) -> Values | None:
    period, columns = own.parameter("period_length"), own.columns
    if own.kernel.raw_period_length.numel() != 1:
        return None
    return lambda theta, pairs: (pairs.distances(columns) * (math.pi / period(theta))).cos()


@leaf(gpytorch.kernels.LinearKernel)
def _linear(own: KernelLeaf) -> Values:
    variance, columns = own.parameter("variance"), own.columns
    return lambda theta, pairs: pairs.products(columns, variance(theta))


@leaf(gpytorch.kernels.PolynomialKernel)
def _polynomial(own: KernelLeaf) -> Values:
    offset, columns, power = own.parameter("offset"), own.columns, own.kernel.power
    return lambda theta, pairs: (pairs.products(columns) + offset(theta)[..., None]) ** power


@leaf(gpytorch.kernels.ConstantKernel)
def _constant(own: KernelLeaf) -> Values:
    constant = own.parameter("constant")

    def values(theta: Tensor, pairs: Pairs) -> Tensor:
        number = _number(constant(theta).to(pairs.x1), theta)
        return number * pairs.x1.new_ones(pairs.shape)

    return values


@leaf(gpytorch.kernels.IndexKernel)
def _index(own: KernelLeaf) -> Values | None:
    """Bonilla, Chai & Williams (2007): a table B = FFᵀ + diag(v) of covariances of labels."""
    if len(own.columns) != 1:
        return None
    factor, variance, column = own.parameter("covar_factor"), own.parameter("var"), own.columns[0]

    def values(theta: Tensor, pairs: Pairs) -> Tensor:
        root = factor(theta)
        return pairs.entries(column, root @ root.mT + torch.diag_embed(variance(theta)))

    return values


@leaf(gpytorch.kernels.SpectralMixtureKernel)
def _spectral_mixture(own: KernelLeaf) -> Values:
    """Wilson & Adams (2013), eq. 12, as gpytorch has it: a product over columns of mixtures."""
    columns, count = own.columns, own.kernel.num_mixtures
    weights, means, scales = (
        own.parameter(f"mixture_{name}") for name in ("weights", "means", "scales")
    )

    def values(theta: Tensor, pairs: Pairs) -> Tensor:
        w, mu, v = weights(theta), means(theta), scales(theta)
        result = None
        for k, column in enumerate(columns):
            gap = pairs.differences(column)
            total = None
            for q in range(count):
                width, frequency = v[..., q, :, k : k + 1], mu[..., q, :, k : k + 1]
                fall = decay((gap * width).square() * (-2 * math.pi**2))
                wave = (gap * (2 * math.pi * frequency)).cos()
                term = fall * wave * w[..., q, None, None]
                total = term if total is None else total + term
            assert total is not None
            result = total if result is None else result * total
        assert result is not None
        return result

    return values

"""Gram matrices of fixed inputs as functions of a kernel's parameters θ."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

import gpytorch
import torch
from torch import Tensor

from bayesgen import verify
from bayesgen.covariance.distances import BLOCK, squared_distances
from bayesgen.covariance.expression import Expression, Opaque, expression
from bayesgen.covariance.pairs import LowerPairs, Pairs
from bayesgen.covariance.radial import Profile, profile_of
from bayesgen.kernels import (
    diagonal,
    evaluate,
    has_only_a_lengthscale,
    lengthscale_bounds,
    with_lengthscale,
)
from bayesgen.kernels.parameters import Coordinates
from bayesgen.kernels.structure import is_known, within
from bayesgen.verify import Check

# What the check of a fast path of a kernel compares.
_ENTRIES = "entries of K, with the kernel's own evaluation"


class Gram(ABC):
    """The Gram matrix of fixed inputs as a function of parameters θ, a vector (p,).

    Attributes:
        x: the inputs, (n, d).
    """

    x: Tensor
    _checks: tuple[Check, ...] = ()

    @property
    def checks(self) -> tuple[Check, ...]:
        """Comparisons of fast paths with direct ones.

        Where one did not pass, the direct path is in use.
        """
        return self._checks

    @abstractmethod
    def start(self) -> Tensor:
        """Initial parameters θ, as the user set them, (p,)."""

    @abstractmethod
    def matrix(self, theta: Tensor) -> Tensor:
        """Gram matrix K(θ), a new (n, n) tensor."""

    @abstractmethod
    def cross(self, x_new: Tensor) -> Callable[[Tensor], Tensor]:
        """Function θ → k_θ(x_new, x), (m, n)."""

    @abstractmethod
    def diagonal(self, theta: Tensor, x_new: Tensor) -> Tensor:
        """Variances k_θ(x, x) at the rows x of x_new, (m,)."""

    @abstractmethod
    def full(self, theta: Tensor, x_new: Tensor) -> Tensor:
        """Covariance matrix k_θ(x_new, x_new), (m, m)."""

    @abstractmethod
    def pull(self, theta: Tensor, weights: Tensor) -> Tensor:
        """Inner products ⟨weights, ∂K/∂θⱼ⟩ for each j, (p,)."""

    def with_pull(self, theta: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """K(θ), a new tensor, and the function weights → ⟨weights, ∂K/∂θⱼ⟩, to be called once."""
        return self.matrix(theta), partial(self.pull, theta)

    def matrices(self, theta: Tensor) -> Tensor:
        """Gram matrices at S settings θ (S, p), (S, n, n)."""
        return torch.stack([self.matrix(one) for one in theta])

    def lower_matrices(self, theta: Tensor) -> Tensor:
        """Gram matrices at S settings θ (S, p), (S, n, n), right on and below the diagonal."""
        return self.matrices(theta)

    def with_pulls(self, theta: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """As `lower_matrices`, and the function of their weights.

        It takes symmetric weights (S, n, n) to ⟨weights, ∂K/∂θⱼ⟩ (S, p) and is called once.
        """

        def pulls(weights: Tensor) -> Tensor:
            return torch.stack([self.pull(one, W) for one, W in zip(theta, weights, strict=True)])

        return self.matrices(theta), pulls

    def tangents(self, theta: Tensor) -> Tensor:
        """Derivatives ∂K/∂θⱼ at S settings θ (S, p), (S, p, n, n), by central differences."""
        step = torch.finfo(self.x.dtype).eps ** (1 / 3)
        low, high = (end.to(theta) for end in self.limits())
        (S, p), n = theta.shape, len(self.x)
        if not p:
            return self.x.new_zeros(S, 0, n, n)
        # At an end of its range, the difference is one-sided.
        up = torch.where(theta + step > high, torch.maximum(theta, high), theta + step)
        down = torch.where(theta - step < low, torch.minimum(theta, low), theta - step)
        own = theta[:, None, :].expand(S, p, p)
        moved = [torch.diagonal_scatter(own, end, dim1=-2, dim2=-1) for end in (up, down)]
        K = self.matrices(torch.stack(moved).reshape(-1, p)).reshape(2, S, p, n, n)
        return (K[0] - K[1]).div_((up - down)[..., None, None])

    def limits(self) -> tuple[Tensor, Tensor]:
        """Ends of the range of each θⱼ, (p,); infinite where there is none."""
        wide = torch.full_like(self.start(), torch.inf)
        return -wide, wide


class KernelGram(Gram):
    """A Gram matrix whose θ are parameters of a gpytorch kernel."""

    def __init__(self, kernel: gpytorch.kernels.Kernel, x: Tensor) -> None:
        self.base, self.x = kernel, x

    @cached_property
    def coordinates(self) -> Coordinates:
        """Search coordinates of the kernel's free parameters."""
        return Coordinates(self.base, self.x.shape[1])

    def on(self, x: Tensor) -> KernelGram:
        """The same kernel on other inputs."""
        return gram(copy.deepcopy(self.base).to(x), x)

    def start(self) -> Tensor:
        """Initial parameters θ of the user's kernel, (p,)."""
        return self.parameters(self.base)

    @abstractmethod
    def parameters(self, kernel: gpytorch.kernels.Kernel) -> Tensor:
        """Parameters θ of a kernel of the same structure, (p,)."""

    @abstractmethod
    def kernel(self, theta: Tensor) -> gpytorch.kernels.Kernel:
        """A copy of the kernel with parameters θ."""

    def natural(self, theta: Tensor) -> Tensor:
        """Values of the parameters at θ (..., p) in their own units, (..., p)."""
        return self.coordinates.natural(theta)

    def matrix(self, theta: Tensor) -> Tensor:
        """Gram matrix K(θ), a new (n, n) tensor."""
        with torch.no_grad():
            return evaluate(self.kernel(theta), self.x)

    def cross(self, x_new: Tensor) -> Callable[[Tensor], Tensor]:
        """Function θ → k_θ(x_new, x), (m, n)."""

        def at(theta: Tensor) -> Tensor:
            with torch.no_grad():
                return evaluate(self.kernel(theta), x_new, self.x)

        return at

    def between(self, theta: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
        """Covariance matrix k_θ(x1, x2), (n1, n2), a new tensor."""
        with torch.no_grad():
            return evaluate(self.kernel(theta), x1, x2)

    def diagonal(self, theta: Tensor, x_new: Tensor) -> Tensor:
        """Variances k_θ(x, x) at the rows x of x_new, (m,)."""
        with torch.no_grad():
            return diagonal(self.kernel(theta), x_new)

    def full(self, theta: Tensor, x_new: Tensor) -> Tensor:
        """Covariance matrix k_θ(x_new, x_new), (m, m)."""
        with torch.no_grad():
            return evaluate(self.kernel(theta), x_new)


class LengthscaleGram(KernelGram):
    """Gram matrix with θ = (log ℓ), for any kernel with one scalar length-scale ℓ.

    Derivatives are central differences.
    """

    def parameters(self, kernel: gpytorch.kernels.Kernel) -> Tensor:
        """Logarithm of the kernel's length-scale, (1,)."""
        return kernel.lengthscale.detach().reshape(1).abs().log()

    def kernel(self, theta: Tensor) -> gpytorch.kernels.Kernel:
        """A copy of the kernel with the nearest length-scale that its constraint allows."""
        low, high = lengthscale_bounds(self.base)
        inside = 8 * torch.finfo(theta.dtype).eps
        value = theta.exp().clamp(low * (1 + inside), high * (1 - inside))
        return with_lengthscale(self.base, value)

    def natural(self, theta: Tensor) -> Tensor:
        """The length-scale at θ (..., 1), (..., 1)."""
        return theta.exp()

    def active(self, x: Tensor) -> Tensor:
        """The columns of inputs that the kernel uses, (m, d')."""
        if self.base.active_dims is None:
            return x
        return x[:, list(within(self.base, tuple(range(x.shape[1]))))]

    def slope(self, theta: Tensor) -> Tensor:
        """Derivative ∂K/∂ log ℓ, (n, n), by central differences."""
        step = torch.finfo(self.x.dtype).eps ** (1 / 3)
        return (self.matrix(theta + step) - self.matrix(theta - step)).div_(2 * step)

    def pull(self, theta: Tensor, weights: Tensor) -> Tensor:
        """Inner product ⟨weights, ∂K/∂ log ℓ⟩, (1,)."""
        return (weights * self.slope(theta)).sum().reshape(1)


class RadialGram(LengthscaleGram):
    """Gram matrix with θ = (log ℓ), for a registered radial kernel.

    Distances are computed once, and derivatives are exact.
    """

    def __init__(
        self,
        kernel: gpytorch.kernels.Kernel,
        x: Tensor,
        profile: Profile,
        checks: tuple[Check, ...] = (),
    ) -> None:
        self.base, self.x, self.profile, self._checks = kernel, x, profile, checks

    def on(self, x: Tensor) -> RadialGram:
        """The same kernel on other inputs."""
        base = copy.deepcopy(self.base).to(x)
        profile = profile_of(base)
        assert profile is not None
        return RadialGram(base, x, profile, self._checks)

    def __getstate__(self) -> dict[str, Any]:
        """The state without the profile and the distances, which are made again."""
        made = ("profile", "distances")
        return {name: value for name, value in self.__dict__.items() if name not in made}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        profile = profile_of(self.base)
        assert profile is not None
        self.profile = profile

    @cached_property
    def distances(self) -> Tensor:
        """Squared distances ‖xᵢ − xⱼ‖², (n, n)."""
        return squared_distances(self.active(self.x))

    def between(self, theta: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
        """Covariance matrix k_ℓ(x1, x2), (n1, n2), a new tensor."""
        inverse_square = float((-2 * theta).exp())
        result = squared_distances(self.active(x1), self.active(x2))
        for _, rows in _row_blocks(result):
            rows.copy_(self.profile.value(rows.mul_(inverse_square)))
        return result

    def matrix(self, theta: Tensor) -> Tensor:
        """Gram matrix K(ℓ), a new (n, n) tensor."""
        return _sweep(self.profile.value, self.distances, theta)

    def cross(self, x_new: Tensor) -> Callable[[Tensor], Tensor]:
        """Function θ → k_ℓ(x_new, x), (m, n)."""
        distances = squared_distances(self.active(x_new), self.active(self.x))
        return lambda theta: _sweep(self.profile.value, distances, theta)

    def slope(self, theta: Tensor) -> Tensor:
        """Derivative ∂K/∂ log ℓ, (n, n), in closed form."""
        return _sweep(self.profile.slope, self.distances, theta)

    def pull(self, theta: Tensor, weights: Tensor) -> Tensor:
        """Inner product ⟨weights, ∂K/∂ log ℓ⟩, (1,), by blocks of rows of the derivative."""
        inverse_square = float((-2 * theta).exp())
        total = weights.new_zeros(1)
        for start, rows in _row_blocks(self.distances):
            slope = self.profile.slope(rows * inverse_square)
            total += (slope * weights[start : start + BLOCK]).sum()
        return total


class ParameterGram(KernelGram):
    """Gram matrix whose θ are the search coordinates of a kernel's free parameters.

    The coordinate of a positive parameter is its logarithm; see `bayesgen.kernels.parameters`. The
    kernel is translated into an expression that keeps the distances of the inputs. The expression
    is compared with gpytorch's evaluation on a few of the inputs; where they differ, gpytorch
    evaluates the kernel.
    """

    def __getstate__(self) -> dict[str, Any]:
        """The state without the expression and the distances, which are made again when needed."""
        made = ("expression", "_made", "pairs", "_lower")
        return {name: value for name, value in self.__dict__.items() if name not in made}

    @cached_property
    def pairs(self) -> Pairs:
        """All pairs of the inputs."""
        return Pairs(self.x)

    @cached_property
    def expression(self) -> Expression:
        """The kernel as an expression of θ."""
        return self._opaque() if self._made is None or not self.checks[0].passed else self._made

    @cached_property
    def _made(self) -> Expression | None:
        """The kernel as a fast expression, or None where there is none."""
        made = expression(self.base, self.coordinates, self.x.shape[1])
        return None if isinstance(made, Opaque) else made

    @cached_property
    def checks(self) -> tuple[Check, ...]:
        """The comparison of the fast expression with gpytorch's evaluation, if there is one."""
        made, theta = self._made, self.start()
        if made is None:
            return ()
        direct = self._opaque()
        return (
            verify.entries(
                _ENTRIES,
                lambda a, b: made(theta, Pairs(a, b)),
                lambda a, b: direct(theta, Pairs(a, b)),
                self.x,
            ),
        )

    def limits(self) -> tuple[Tensor, Tensor]:
        """Ends of the range that the kernel's constraints give each θⱼ, (p,)."""
        return self.coordinates.low, self.coordinates.high

    def with_pull(self, theta: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """As `Gram.with_pull`; few points are evaluated once for value and derivatives."""
        if len(self.x) > BLOCK and self.expression.by_rows:
            return super().with_pull(theta)
        with torch.enable_grad():
            at = theta.detach().requires_grad_()
            K = self.expression(at, self.pairs)

        def pull(weights: Tensor) -> Tensor:
            (gradient,) = torch.autograd.grad(K, at, weights, materialize_grads=True)
            return gradient

        if not K.requires_grad:  # no free parameter
            return K.clone(), lambda weights: torch.zeros_like(theta)
        return K.detach().clone(), pull

    def matrices(self, theta: Tensor) -> Tensor:
        """As `Gram.matrices`, evaluated together."""
        with torch.no_grad():
            n = len(self.x)
            return self.expression(theta, self.pairs).expand(len(theta), n, n).clone()

    def lower_matrices(self, theta: Tensor) -> Tensor:
        """As `Gram.lower_matrices`, from half of the pairs."""
        if not self.expression.by_rows:
            return self.matrices(theta)
        with torch.no_grad():
            values = self.expression(theta, self._lower)
        return self._lower.unpack(values.expand(len(theta), *values.shape[-2:]))

    def with_pulls(self, theta: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """As `Gram.with_pulls`, from half of the pairs."""
        with torch.enable_grad():
            at = theta.detach().requires_grad_()
            half = self.expression.by_rows
            K = self.expression(at, self._lower if half else self.pairs)

        def pulls(weights: Tensor) -> Tensor:
            packed = self._lower.pack(weights) if half else weights
            (gradient,) = torch.autograd.grad(K, at, packed, materialize_grads=True)
            return gradient

        if not K.requires_grad:
            return super().with_pulls(theta)
        return self._lower.unpack(K.detach()) if half else K.detach().clone(), pulls

    @cached_property
    def _lower(self) -> LowerPairs:
        return LowerPairs(self.x)

    def _opaque(self) -> Opaque:
        return Opaque(self.base, self.coordinates, tuple(range(self.x.shape[1])))

    def parameters(self, kernel: gpytorch.kernels.Kernel) -> Tensor:
        """Search coordinates of the kernel's free parameters, (p,)."""
        return self.coordinates.read(kernel).to(self.x)

    def kernel(self, theta: Tensor) -> gpytorch.kernels.Kernel:
        """A copy of the kernel with these search coordinates."""
        kernel = copy.deepcopy(self.base)
        self.coordinates.write(kernel, theta)
        return kernel

    def matrix(self, theta: Tensor) -> Tensor:
        """Gram matrix K(θ), a new (n, n) tensor."""
        return self._evaluate(theta, self.pairs)

    def cross(self, x_new: Tensor) -> Callable[[Tensor], Tensor]:
        """Function θ → k_θ(x_new, x), (m, n)."""
        pairs = Pairs(x_new, self.x)
        return lambda theta: self._evaluate(theta, pairs)

    def between(self, theta: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
        """Covariance matrix k_θ(x1, x2), (n1, n2), a new tensor."""
        return self._evaluate(theta, Pairs(x1, x2))

    def full(self, theta: Tensor, x_new: Tensor) -> Tensor:
        """Covariance matrix k_θ(x_new, x_new), (m, m)."""
        return self._evaluate(theta, Pairs(x_new))

    def _evaluate(self, theta: Tensor, pairs: Pairs) -> Tensor:
        m, n = len(pairs.x1), len(pairs.x2)
        with torch.no_grad():
            if m <= BLOCK or not self.expression.by_rows:
                return self.expression(theta, pairs).clone()
            result = self.x.new_empty(m, n)
            mirror = pairs.x1 is pairs.x2
            for start in range(0, m, BLOCK):
                rows = slice(start, start + BLOCK)
                if not mirror:
                    result[rows] = self.expression(theta, pairs.block(rows))
                    continue
                part = self.expression(theta, pairs.block(rows, start))
                result[rows, start:] = part
                result[start:, rows] = part.mT
        return result

    def pull(self, theta: Tensor, weights: Tensor) -> Tensor:
        """Inner products ⟨weights, ∂K/∂θⱼ⟩, (p,), by backward passes over blocks of rows.

        The weights must be symmetric: only the blocks on and above the diagonal are evaluated.
        """
        n, total = len(self.x), torch.zeros_like(theta)
        if not self.expression.by_rows or n <= BLOCK:
            return self.with_pull(theta)[1](weights)
        for start in range(0, n, BLOCK):
            rows = slice(start, start + BLOCK)
            pairs = self.pairs.block(rows, start)
            part = 2 * weights[rows, start:]
            part[:, : len(part)] *= 0.5
            with torch.enable_grad():
                at = theta.detach().requires_grad_()
                K = self.expression(at, pairs)
                if not K.requires_grad:  # no free parameter
                    return total
                (gradient,) = torch.autograd.grad(K, at, part, materialize_grads=True)
            total += gradient
        return total


class DifferenceGram(ParameterGram):
    """Gram matrix of a kernel that autograd does not differentiate, by central differences.

    Such a kernel has derivatives that are NaN, as those of a root at 0, or that leave out a
    parameter, which it detaches.
    """

    def pull(self, theta: Tensor, weights: Tensor) -> Tensor:
        """Inner products ⟨weights, ∂K/∂θⱼ⟩, (p,), by central differences."""
        step = torch.finfo(self.x.dtype).eps ** (1 / 3)
        low, high = (end.to(theta) for end in self.limits())
        result = torch.zeros_like(theta)
        for j in range(len(theta)):
            up, down = theta.clone(), theta.clone()
            up[j] = torch.maximum(torch.minimum(theta[j] + step, high[j]), theta[j])
            down[j] = torch.minimum(torch.maximum(theta[j] - step, low[j]), theta[j])
            change = self.matrix(up).sub_(self.matrix(down))
            result[j] = (weights * change).sum() / (up[j] - down[j])
        return result

    def with_pull(self, theta: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """As `Gram.with_pull`, without an autograd graph."""
        return Gram.with_pull(self, theta)

    def with_pulls(self, theta: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """As `Gram.with_pulls`, without an autograd graph."""
        return Gram.with_pulls(self, theta)


def _is_differentiated(made: ParameterGram) -> bool:
    """Whether autograd gives the derivative of a user's kernel along one direction of θ.

    It is compared with a central difference, on a few inputs.
    """
    parts = (m for m in made.base.modules() if isinstance(m, gpytorch.kernels.Kernel))
    theta = made.start()
    if not len(theta) or all(is_known(part) for part in parts):
        return True
    x, eps = verify.some_inputs(made.x), torch.finfo(made.x.dtype).eps
    pairs, step = Pairs(x, torch.cat([x, x[:1]])), eps ** (1 / 3)
    low, high = (end.to(theta) for end in made.limits())
    theta = torch.maximum(torch.minimum(theta, high - step), low + step)
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(pairs.shape, generator=generator, dtype=torch.float64).to(x)
    along = torch.randn(len(theta), generator=generator, dtype=torch.float64).to(theta)
    along = along / along.abs().max()
    try:
        made.expression(theta, pairs)
    except Exception:  # a kernel may be defined on the training inputs only
        return True
    with torch.enable_grad():
        at = theta.detach().requires_grad_()
        K = made.expression(at, pairs)
        slope = torch.zeros_like(theta)
        if K.requires_grad:
            (slope,) = torch.autograd.grad(K, at, weights, materialize_grads=True)
    with torch.no_grad():
        up, down = (made.expression(theta + s * step * along, pairs) for s in (1, -1))
    difference = (weights * (up - down)).sum() / (2 * step)
    own = (slope * along).sum()
    size = float((weights * K.detach()).abs().sum())
    allowed = eps**0.2 * float(own.abs() + difference.abs()) + eps**0.4 * size
    return bool(slope.isfinite().all()) and float((own - difference).abs()) <= allowed


def gram(kernel: gpytorch.kernels.Kernel, x: Tensor) -> KernelGram:
    """The fastest `KernelGram` for this kernel's free parameters on inputs x (n, d)."""
    if not has_only_a_lengthscale(kernel):
        by_autograd = ParameterGram(kernel, x)
        return by_autograd if _is_differentiated(by_autograd) else DifferenceGram(kernel, x)
    profile = profile_of(kernel)
    plain = LengthscaleGram(kernel, x)
    if profile is None:
        if is_known(kernel):
            return plain
        # A subclass may have a length-scale that is not read as it is written.
        written = plain.kernel(plain.start())
        check = verify.entries(_ENTRIES, partial(evaluate, written), partial(evaluate, kernel), x)
        return plain if check.passed else ParameterGram(kernel, x)
    radial, theta = RadialGram(kernel, x, profile), plain.start()
    columns = radial.active

    def direct(a: Tensor, b: Tensor) -> Tensor:
        values: Tensor = kernel.forward(columns(a), columns(b))
        return values

    check = verify.entries(_ENTRIES, partial(radial.between, theta), direct, x)
    made = radial if check.passed else plain
    made._checks = (check,)
    return made


def _sweep(function: Callable[[Tensor], Tensor], distances: Tensor, theta: Tensor) -> Tensor:
    inverse_square = float((-2 * theta).exp())
    if len(distances) <= BLOCK:
        return function(distances * inverse_square)
    result = torch.empty_like(distances)
    for start, rows in _row_blocks(distances):
        result[start : start + BLOCK] = function(rows * inverse_square)
    return result


def _row_blocks(matrix: Tensor) -> Iterator[tuple[int, Tensor]]:
    for start in range(0, len(matrix), BLOCK):
        yield start, matrix[start : start + BLOCK]

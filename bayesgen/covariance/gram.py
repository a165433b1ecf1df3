"""Gram matrices of fixed inputs as a kernel's parameters move; radial kernels reuse distances."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cached_property

import gpytorch
import torch
from torch import Tensor

from bayesgen.covariance.radial import BLOCK, profile_of, squared_distances
from bayesgen.kernels import (
    evaluate,
    free_parameters,
    has_only_a_lengthscale,
    with_lengthscale,
)


class Gram(ABC):
    """The Gram matrix of fixed inputs as a function of parameters θ, a vector (p,).

    Attributes:
        x: the inputs, (n, d).
    """

    x: Tensor

    @abstractmethod
    def start(self) -> Tensor:
        """θ as the user has it, (p,)."""

    @abstractmethod
    def matrix(self, theta: Tensor) -> Tensor:
        """K(θ), a new (n, n) tensor."""

    @abstractmethod
    def cross(self, x_new: Tensor) -> Callable[[Tensor], Tensor]:
        """θ → k_θ(x_new, x), (m, n)."""

    @abstractmethod
    def diagonal(self, theta: Tensor, x_new: Tensor) -> Tensor:
        """k_θ(x_new, x_new) point by point, (m,)."""

    @abstractmethod
    def full(self, theta: Tensor, x_new: Tensor) -> Tensor:
        """k_θ(x_new, x_new), (m, m)."""

    @abstractmethod
    def pull(self, theta: Tensor, weights: Tensor) -> Tensor:
        """⟨weights, ∂K/∂θⱼ⟩ for each j, (p,)."""


class KernelGram(Gram):
    """θ are parameters of a gpytorch kernel."""

    def __init__(self, kernel: gpytorch.kernels.Kernel, x: Tensor) -> None:
        self.base, self.x = kernel, x

    def start(self) -> Tensor:
        """θ as the user's kernel has it, (p,)."""
        return self.parameters(self.base)

    @abstractmethod
    def parameters(self, kernel: gpytorch.kernels.Kernel) -> Tensor:
        """θ of a copy of this kernel with other values, (p,)."""

    @abstractmethod
    def kernel(self, theta: Tensor) -> gpytorch.kernels.Kernel:
        """The kernel at θ, a copy."""

    def matrix(self, theta: Tensor) -> Tensor:
        """K(θ), a new (n, n) tensor."""
        with torch.no_grad():
            return evaluate(self.kernel(theta), self.x)

    def cross(self, x_new: Tensor) -> Callable[[Tensor], Tensor]:
        """θ → k_θ(x_new, x), (m, n)."""

        def at(theta: Tensor) -> Tensor:
            with torch.no_grad():
                return evaluate(self.kernel(theta), x_new, self.x)

        return at

    def between(self, theta: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
        """k_θ(x1, x2), (n1, n2), a new tensor."""
        with torch.no_grad():
            return evaluate(self.kernel(theta), x1, x2)

    def diagonal(self, theta: Tensor, x_new: Tensor) -> Tensor:
        """See `Gram.diagonal`."""
        with torch.no_grad():
            values: Tensor = self.kernel(theta)(x_new, diag=True)
        return values

    def full(self, theta: Tensor, x_new: Tensor) -> Tensor:
        """See `Gram.full`."""
        with torch.no_grad():
            return evaluate(self.kernel(theta), x_new)


class LengthscaleGram(KernelGram):
    """θ = (log ℓ): any kernel with one scalar length-scale; slopes by central differences."""

    def parameters(self, kernel: gpytorch.kernels.Kernel) -> Tensor:
        """(log ℓ)."""
        return kernel.lengthscale.detach().reshape(1).log()

    def kernel(self, theta: Tensor) -> gpytorch.kernels.Kernel:
        """The kernel with this length-scale."""
        return with_lengthscale(self.base, theta.exp())

    def slope(self, theta: Tensor) -> Tensor:
        """∂K/∂ log ℓ, (n, n)."""
        step = torch.finfo(self.x.dtype).eps ** (1 / 3)
        return (self.matrix(theta + step) - self.matrix(theta - step)).div_(2 * step)

    def pull(self, theta: Tensor, weights: Tensor) -> Tensor:
        """⟨weights, ∂K/∂ log ℓ⟩."""
        return (weights * self.slope(theta)).sum().reshape(1)


class RadialGram(LengthscaleGram):
    """θ = (log ℓ) for a registered radial kernel: distances once, exact slopes."""

    def __init__(self, kernel: gpytorch.kernels.Kernel, x: Tensor) -> None:
        super().__init__(kernel, x)
        profile = profile_of(kernel)
        assert profile is not None
        self.profile = profile

    @cached_property
    def distances(self) -> Tensor:
        """‖xᵢ − xⱼ‖², (n, n)."""
        return squared_distances(self.x)

    def between(self, theta: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
        """See `KernelGram.between`."""
        inverse_square = float((-2 * theta).exp())
        result = squared_distances(x1, x2)
        for _, rows in _row_blocks(result):
            rows.copy_(self.profile.value(rows.mul_(inverse_square)))
        return result

    def matrix(self, theta: Tensor) -> Tensor:
        """K(ℓ)."""
        return _sweep(self.profile.value, self.distances, theta)

    def cross(self, x_new: Tensor) -> Callable[[Tensor], Tensor]:
        """ℓ → k_ℓ(x_new, x)."""
        distances = squared_distances(x_new, self.x)
        return lambda theta: _sweep(self.profile.value, distances, theta)

    def slope(self, theta: Tensor) -> Tensor:
        """∂K/∂ log ℓ, (n, n)."""
        return _sweep(self.profile.slope, self.distances, theta)

    def pull(self, theta: Tensor, weights: Tensor) -> Tensor:
        """⟨weights, ∂K/∂ log ℓ⟩, without holding the slope whole."""
        inverse_square = float((-2 * theta).exp())
        total = weights.new_zeros(1)
        for start, rows in _row_blocks(self.distances):
            slope = self.profile.slope(rows * inverse_square)
            total += (slope * weights[start : start + BLOCK]).sum()
        return total


class ParameterGram(KernelGram):
    """θ = the raw (unconstrained) parameters of any gpytorch kernel; slopes by autograd."""

    def parameters(self, kernel: gpytorch.kernels.Kernel) -> Tensor:
        """The raw parameters, joined."""
        free = (p.detach().reshape(-1) for p in free_parameters(kernel))
        return torch.cat([self.x.new_zeros(0), *free])

    def kernel(self, theta: Tensor) -> gpytorch.kernels.Kernel:
        """The kernel with these raw parameters."""
        kernel = copy.deepcopy(self.base)
        free = free_parameters(kernel)
        with torch.no_grad():
            for p, part in zip(free, theta.split([p.numel() for p in free]), strict=True):
                p.copy_(part.view_as(p))
        return kernel

    def pull(self, theta: Tensor, weights: Tensor) -> Tensor:
        """⟨weights, ∂K/∂θⱼ⟩ by one backward pass through the kernel."""
        kernel = self.kernel(theta)
        parameters = free_parameters(kernel)
        with torch.enable_grad():
            gradients = torch.autograd.grad(
                evaluate(kernel, self.x), parameters, grad_outputs=weights, materialize_grads=True
            )
        return torch.cat([g.reshape(-1) for g in gradients])


def gram(kernel: gpytorch.kernels.Kernel, x: Tensor) -> KernelGram:
    """The cheapest Gram that knows this kernel's free parameters on inputs x (n, d)."""
    if not has_only_a_lengthscale(kernel):
        return ParameterGram(kernel, x)
    return RadialGram(kernel, x) if profile_of(kernel) is not None else LengthscaleGram(kernel, x)


def _sweep(function: Callable[[Tensor], Tensor], distances: Tensor, theta: Tensor) -> Tensor:
    inverse_square = float((-2 * theta).exp())
    result = torch.empty_like(distances)
    for start, rows in _row_blocks(distances):
        result[start : start + BLOCK] = function(rows * inverse_square)
    return result


def _row_blocks(matrix: Tensor) -> Iterator[tuple[int, Tensor]]:
    for start in range(0, len(matrix), BLOCK):
        yield start, matrix[start : start + BLOCK]

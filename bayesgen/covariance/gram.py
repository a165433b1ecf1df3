"""Gram matrices of fixed inputs as functions of a kernel's parameters θ."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cached_property

import gpytorch
import torch
from torch import Tensor

from bayesgen.covariance.radial import BLOCK, Profile, profile_of, squared_distances
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


class KernelGram(Gram):
    """A Gram matrix whose θ are parameters of a gpytorch kernel."""

    def __init__(self, kernel: gpytorch.kernels.Kernel, x: Tensor) -> None:
        self.base, self.x = kernel, x

    def start(self) -> Tensor:
        """Initial parameters θ of the user's kernel, (p,)."""
        return self.parameters(self.base)

    @abstractmethod
    def parameters(self, kernel: gpytorch.kernels.Kernel) -> Tensor:
        """Parameters θ of a kernel of the same structure, (p,)."""

    @abstractmethod
    def kernel(self, theta: Tensor) -> gpytorch.kernels.Kernel:
        """A copy of the kernel with parameters θ."""

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
            values: Tensor = self.kernel(theta)(x_new, diag=True)
        return values

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
        return kernel.lengthscale.detach().reshape(1).log()

    def kernel(self, theta: Tensor) -> gpytorch.kernels.Kernel:
        """A copy of the kernel with this length-scale."""
        return with_lengthscale(self.base, theta.exp())

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

    def __init__(self, kernel: gpytorch.kernels.Kernel, x: Tensor, profile: Profile) -> None:
        self.base, self.x, self.profile = kernel, x, profile

    @cached_property
    def distances(self) -> Tensor:
        """Squared distances ‖xᵢ − xⱼ‖², (n, n)."""
        return squared_distances(self.x)

    def between(self, theta: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
        """Covariance matrix k_ℓ(x1, x2), (n1, n2), a new tensor."""
        inverse_square = float((-2 * theta).exp())
        result = squared_distances(x1, x2)
        for _, rows in _row_blocks(result):
            rows.copy_(self.profile.value(rows.mul_(inverse_square)))
        return result

    def matrix(self, theta: Tensor) -> Tensor:
        """Gram matrix K(ℓ), a new (n, n) tensor."""
        return _sweep(self.profile.value, self.distances, theta)

    def cross(self, x_new: Tensor) -> Callable[[Tensor], Tensor]:
        """Function θ → k_ℓ(x_new, x), (m, n)."""
        distances = squared_distances(x_new, self.x)
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
    """Gram matrix whose θ are the raw (unconstrained) parameters of any gpytorch kernel.

    Derivatives come from autograd.
    """

    def parameters(self, kernel: gpytorch.kernels.Kernel) -> Tensor:
        """The kernel's raw free parameters, joined into one vector, (p,)."""
        free = (p.detach().reshape(-1) for p in free_parameters(kernel))
        return torch.cat([self.x.new_zeros(0), *free])

    def kernel(self, theta: Tensor) -> gpytorch.kernels.Kernel:
        """A copy of the kernel with these raw parameters."""
        kernel = copy.deepcopy(self.base)
        free = free_parameters(kernel)
        with torch.no_grad():
            for p, part in zip(free, theta.split([p.numel() for p in free]), strict=True):
                p.copy_(part.view_as(p))
        return kernel

    def pull(self, theta: Tensor, weights: Tensor) -> Tensor:
        """Inner products ⟨weights, ∂K/∂θⱼ⟩, (p,), by one backward pass through the kernel."""
        kernel = self.kernel(theta)
        parameters = free_parameters(kernel)
        with torch.enable_grad():
            gradients = torch.autograd.grad(
                evaluate(kernel, self.x), parameters, grad_outputs=weights, materialize_grads=True
            )
        return torch.cat([g.reshape(-1) for g in gradients])


def gram(kernel: gpytorch.kernels.Kernel, x: Tensor) -> KernelGram:
    """The fastest `KernelGram` for this kernel's free parameters on inputs x (n, d)."""
    if not has_only_a_lengthscale(kernel):
        return ParameterGram(kernel, x)
    profile = profile_of(kernel)
    return LengthscaleGram(kernel, x) if profile is None else RadialGram(kernel, x, profile)


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

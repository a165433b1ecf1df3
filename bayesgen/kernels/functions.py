"""Kernels from plain functions and random features, and kernels by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gpytorch
import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen.features.convolutional import ConvolutionalMap

KernelFunction = Callable[[Tensor, Tensor], Tensor]

# Pairs processed at a time where only the diagonal of k(x, x) is needed.
_BLOCK = 512


class FunctionKernel(gpytorch.kernels.Kernel):
    """A plain function k(x1, x2) → (n1, n2) as a gpytorch kernel, without hyperparameters."""

    has_lengthscale = False

    def __init__(self, function: KernelFunction) -> None:
        super().__init__()
        self.function = function

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **_: Any) -> Tensor:
        """Covariance matrix k(x1, x2), (n1, n2); with diag, k(x1ᵢ, x2ᵢ), (n,)."""
        if diag:
            pairs = zip(x1.split(_BLOCK), x2.split(_BLOCK), strict=True)
            return torch.cat([self._call(a, b).diagonal() for a, b in pairs])
        return self._call(x1, x2)

    def _call(self, x1: Tensor, x2: Tensor) -> Tensor:
        result = self.function(x1, x2)
        if not isinstance(result, Tensor):
            raise TypeError(
                f"kernel {self.name()} must return a tensor, got {type(result).__name__}"
            )
        wanted = (x1.shape[-2], x2.shape[-2])
        if tuple(result.shape) != wanted:
            raise ValueError(
                f"kernel {self.name()} must return shape (n1, n2) = {wanted} for inputs of "
                f"{wanted[0]} and {wanted[1]} rows, got {tuple(result.shape)}"
            )
        return result

    def name(self) -> str:
        """The function's name, for error messages."""
        return getattr(self.function, "__name__", type(self.function).__name__)


class StationaryKernel(FunctionKernel):
    """The kernel k(x1/ℓ, x2/ℓ) of a plain function k, with a length-scale ℓ to learn."""

    has_lengthscale = True

    def _call(self, x1: Tensor, x2: Tensor) -> Tensor:
        return super()._call(x1 / self.lengthscale, x2 / self.lengthscale)


class ConvolutionalFeatures(gpytorch.kernels.Kernel):
    """The kernel φ(x)ᵀφ(x') of random convolutional features φ, without hyperparameters.

    Args:
        filters: number of filters.
        settings: further arguments of `bayesgen.features.convolutional.ConvolutionalMap`.

    Example:
        >>> kernel = ConvolutionalFeatures(6, image=(1, 8, 8), patch=3)
        >>> kernel(torch.rand(5, 64, dtype=torch.float64)).to_dense().shape
        torch.Size([5, 5])
    """

    has_lengthscale = False

    def __init__(self, filters: int, **settings: Any) -> None:
        super().__init__()
        self.map = ConvolutionalMap(filters, **settings)

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **_: Any) -> Tensor:
        """Covariance matrix k(x1, x2), (n1, n2); with diag, k(x1ᵢ, x2ᵢ), (n,)."""
        left = self.map(x1)
        right = left if torch.equal(x1, x2) else self.map(x2)
        return (left * right).sum(-1) if diag else left @ right.mT


def stationary(function: KernelFunction) -> StationaryKernel:
    """Add a length-scale to a plain kernel function: k_ℓ(x, x') = k(x/ℓ, x'/ℓ).

    Args:
        function: k(x1, x2) → (n1, n2) tensor, with inputs in units of the length-scale.

    Raises:
        TypeError: the function is not callable.

    Example:
        >>> kernel = stationary(lambda a, b: torch.exp(-torch.cdist(a, b)))
        >>> kernel.lengthscale = 2.0
        >>> kernel(torch.zeros(1, 1), torch.ones(1, 1)).to_dense().item()  # exp(−1/2)
        0.606...
    """
    if not callable(function):
        raise TypeError(f"function must be a callable k(x1, x2), got {type(function).__name__}")
    return StationaryKernel(function)


def named(name: str) -> gpytorch.kernels.Kernel:
    """A new kernel by name: "rbf", "matern12", "matern32" or "matern52".

    Raises:
        ValueError: the name is unknown.

    Example:
        >>> named("matern32").nu
        1.5
    """
    return _NAMED[checks.one_of("kernel", name, tuple(_NAMED))]()


_NAMED: dict[str, Callable[[], gpytorch.kernels.Kernel]] = {
    "rbf": gpytorch.kernels.RBFKernel,
    "matern12": lambda: gpytorch.kernels.MaternKernel(nu=0.5),
    "matern32": lambda: gpytorch.kernels.MaternKernel(nu=1.5),
    "matern52": lambda: gpytorch.kernels.MaternKernel(nu=2.5),
}


# The names that `named` accepts.
NAMES = tuple(_NAMED)

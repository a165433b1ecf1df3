"""Kernels from gpytorch or from a plain function, and their length-scales and parameters."""

from __future__ import annotations

import copy
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


def resolve(kernel: Any, like: Tensor) -> tuple[gpytorch.kernels.Kernel, Tensor, bool]:
    """Separate a kernel from its outputscale, in the dtype and on the device of `like`.

    The user's object is copied and not changed. A plain function becomes a `FunctionKernel`. The
    outputscale of an outermost `ScaleKernel` is split off.

    Returns:
        The kernel with unit outputscale, the outputscale, and whether the outputscale is free.

    Raises:
        TypeError: the argument is neither a gpytorch kernel nor a function.
        ValueError: the kernel has a batch shape.
    """
    if isinstance(kernel, gpytorch.kernels.Kernel):
        kernel = copy.deepcopy(kernel)
    elif callable(kernel):
        kernel = FunctionKernel(kernel)
    else:
        raise TypeError(
            "kernel must be a gpytorch.kernels.Kernel or a function k(x1, x2) → (n1, n2) tensor, "
            f"got {type(kernel).__name__}"
        )
    if kernel.batch_shape:
        raise ValueError(
            f"kernel must have no batch shape, got {tuple(kernel.batch_shape)}: tasks are "
            "batched in y, shape (B, n, C)"
        )
    kernel = kernel.to(dtype=like.dtype, device=like.device)
    scale = torch.ones((), dtype=like.dtype, device=like.device)
    if isinstance(kernel, gpytorch.kernels.ScaleKernel) and kernel.active_dims is None:
        scale, free = kernel.outputscale.detach().clone(), kernel.raw_outputscale.requires_grad
        return kernel.base_kernel, scale, free
    return kernel, scale, True


def free_parameters(kernel: gpytorch.kernels.Kernel) -> list[torch.nn.Parameter]:
    """The parameters to learn, which are those with `requires_grad`, as in gpytorch."""
    return [p for p in kernel.parameters() if p.requires_grad]


def has_one_lengthscale(kernel: gpytorch.kernels.Kernel) -> bool:
    """Whether the kernel has a length-scale of its own that is a scalar."""
    return bool(kernel.has_lengthscale) and kernel.raw_lengthscale.numel() == 1


def has_only_a_lengthscale(kernel: gpytorch.kernels.Kernel) -> bool:
    """Whether one scalar length-scale is the only parameter to learn."""
    free = free_parameters(kernel)
    return has_one_lengthscale(kernel) and len(free) == 1 and free[0] is kernel.raw_lengthscale


def with_lengthscale(kernel: gpytorch.kernels.Kernel, lengthscale: Tensor) -> Any:
    """A copy of the kernel with this length-scale, ().

    The length-scale is a tensor because gpytorch rounds a Python float to torch's default dtype.
    """
    kernel = copy.deepcopy(kernel)
    kernel.lengthscale = lengthscale
    return kernel


def evaluate(kernel: gpytorch.kernels.Kernel, x1: Tensor, x2: Tensor | None = None) -> Tensor:
    """Covariance matrix k(x1, x2) as a dense (n1, n2) tensor; x2 = None means x2 = x1.

    Differentiable.
    """
    result: Tensor = (kernel(x1) if x2 is None else kernel(x1, x2)).to_dense()
    return result


def typical_distance(x: Tensor, *, most: int = 1000) -> float | None:
    """Median distance between distinct points of x, or None if all coincide.

    It uses at most `most` points, evenly spaced in x.
    """
    some = x[:: max(1, -(-len(x) // most))]
    distances = torch.pdist(some)
    distances = distances[distances > 0]
    return float(distances.median()) if distances.numel() else None


def with_typical_lengthscales(kernel: gpytorch.kernels.Kernel, x: Tensor) -> Any:
    """A copy of the kernel whose free length-scales are the typical distance, to start a search."""
    kernel, typical = copy.deepcopy(kernel), typical_distance(x)
    for part in kernel.modules():
        if (
            typical is not None
            and isinstance(part, gpytorch.kernels.Kernel)
            and part.has_lengthscale
            and part.raw_lengthscale.requires_grad
        ):
            low, high = lengthscale_bounds(part)
            part.lengthscale = x.new_tensor(min(max(typical, low), high))
    return kernel


def lengthscale_bounds(kernel: gpytorch.kernels.Kernel) -> tuple[float, float]:
    """Bounds of the open interval that the kernel's constraint allows, (0, ∞) by default."""
    constraint = kernel.raw_lengthscale_constraint
    return float(constraint.lower_bound.min()), float(constraint.upper_bound.max())

"""Operations on gpytorch kernels: outputscale, evaluation, free parameters and length-scales."""

from __future__ import annotations

import copy
from typing import Any

import gpytorch
import torch
from torch import Tensor

from bayesgen.kernels.admission import admit, check_structure
from bayesgen.kernels.functions import FunctionKernel


def check_kernel(kernel: Any) -> None:
    """Check that an argument is a kernel.

    Raises:
        TypeError: the argument is neither a gpytorch kernel nor a function, or it is a class.
    """
    if isinstance(kernel, type):
        raise TypeError(
            f"kernel must be an instance, got the class {kernel.__name__}: write "
            f"{kernel.__name__}()"
        )
    if not callable(kernel):
        raise TypeError(
            "kernel must be a gpytorch.kernels.Kernel or a function k(x1, x2) → (n1, n2) tensor, "
            f"got {type(kernel).__name__}"
        )


def resolve(kernel: Any, like: Tensor) -> tuple[gpytorch.kernels.Kernel, Tensor, bool]:
    """Separate a kernel from its outputscale, in the dtype and on the device of `like`.

    The user's object is copied and not changed. A plain function becomes a `FunctionKernel`. The
    outputscale of an outermost `ScaleKernel` is split off. A free outputscale whose constraint has
    limits besides 0 remains in the kernel, as one of its parameters.

    Returns:
        The kernel with unit outputscale, the outputscale, and whether the outputscale is free.

    Raises:
        TypeError, ValueError: the argument is neither a gpytorch kernel nor a function; see
            `bayesgen.kernels.admission.admit` for the others.
    """
    check_kernel(kernel)
    if isinstance(kernel, torch.nn.Module):
        try:
            kernel = copy.deepcopy(kernel)
        except RuntimeError as err:  # torch copies no tensor that has an autograd graph
            raise ValueError(
                f"kernel {type(kernel).__name__} cannot be copied: {str(err).splitlines()[0]}"
            ) from err
    if not isinstance(kernel, gpytorch.kernels.Kernel):
        kernel = FunctionKernel(kernel)
    kernel = kernel.to(dtype=like.dtype, device=like.device)
    scale, free = torch.ones((), dtype=like.dtype, device=like.device), True
    check_structure(kernel, like)
    if isinstance(kernel, gpytorch.kernels.ScaleKernel):
        inner = kernel.base_kernel
        if inner.active_dims is None and kernel.active_dims is not None:
            inner.register_buffer("active_dims", kernel.active_dims)  # gpytorch applies them once
        if not has_limited_scale(kernel):
            scale, free = kernel.outputscale.detach().clone(), kernel.raw_outputscale.requires_grad
            kernel = inner
    admit(kernel, like if like.ndim == 2 else like.flatten(0, -2))
    return kernel, scale, free


def has_limited_scale(kernel: gpytorch.kernels.Kernel) -> bool:
    """Whether the kernel is a ScaleKernel with a free outputscale that has limits besides 0."""
    if not isinstance(kernel, gpytorch.kernels.ScaleKernel):
        return False
    constraint = kernel.raw_outputscale_constraint
    limits = float(constraint.lower_bound) > 0 or float(constraint.upper_bound) < float("inf")
    return bool(kernel.raw_outputscale.requires_grad) and limits


def free_parameters(kernel: gpytorch.kernels.Kernel) -> list[torch.nn.Parameter]:
    """The parameters to learn, which are those with `requires_grad`, as in gpytorch."""
    return [p for p in kernel.parameters() if p.requires_grad]


def keep_constraints(kernel: gpytorch.kernels.Kernel) -> None:
    """Move parameters into constraints without a transformation, in place."""
    for module in kernel.modules():
        if isinstance(module, gpytorch.Module):
            for name, constraint in module._constraints.items():
                raw = module._parameters.get(name.removesuffix("_constraint"))
                if raw is not None and raw.requires_grad and not constraint.enforced:
                    with torch.no_grad():
                        raw.clamp_(constraint.lower_bound.to(raw), constraint.upper_bound.to(raw))


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

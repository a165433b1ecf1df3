"""Radial kernels as functions of the squared distance, so that Gram matrices reuse distances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gpytorch
import torch
from torch import Tensor

from bayesgen.kernels import has_one_lengthscale

# Rows processed at a time; keeps the temporaries of an elementwise sweep over (n, n) small.
BLOCK = 512


@dataclass(frozen=True)
class Profile:
    """A radial kernel and its derivative as functions of q = ‖x − x'‖²/ℓ². Both may overwrite q.

    Attributes:
        value: q → k(q).
        slope: q → ∂k/∂ log ℓ.
    """

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]


_RADIAL: dict[type, Callable[[Any], Profile]] = {}


def radial(kernel_type: type) -> Callable[[Callable[[Any], Profile]], Callable[[Any], Profile]]:
    """Register the profile of a radial kernel type, so that it reuses pairwise distances."""

    def register(make: Callable[[Any], Profile]) -> Callable[[Any], Profile]:
        _RADIAL[kernel_type] = make
        return make

    return register


@radial(gpytorch.kernels.RBFKernel)
def _rbf(_: gpytorch.kernels.RBFKernel) -> Profile:
    """Squared exponential kernel, k = exp(−q/2)."""
    return Profile(
        value=lambda q: q.mul_(-0.5).exp_(),
        slope=lambda q: (q * -0.5).exp_().mul_(q),
    )


@radial(gpytorch.kernels.MaternKernel)
def _matern(kernel: gpytorch.kernels.MaternKernel) -> Profile:
    """Matérn kernel, Rasmussen & Williams (2006), eq. 4.14–4.17, with a = √(2ν q)."""
    nu = kernel.nu
    root = (2 * nu) ** 0.5

    def split(q: Tensor) -> tuple[Tensor, Tensor]:
        a = q.sqrt_().mul_(root)
        return a, (-a).exp_()

    def value(q: Tensor) -> Tensor:
        a, decay = split(q)
        if nu == 0.5:
            return decay
        return decay.mul_(1 + a) if nu == 1.5 else decay.mul_(1 + a + a * a / 3)

    def slope(q: Tensor) -> Tensor:
        a, decay = split(q)
        if nu == 0.5:
            return decay.mul_(a)
        return decay.mul_(a * a) if nu == 1.5 else decay.mul_(a * a * (1 + a) / 3)

    return Profile(value, slope)


@radial(gpytorch.kernels.RQKernel)
def _rational_quadratic(kernel: gpytorch.kernels.RQKernel) -> Profile:
    """Rational quadratic kernel, k = (1 + q/(2α))^−α."""
    alpha = kernel.alpha.detach().squeeze()
    return Profile(
        value=lambda q: q.div_(2 * alpha).add_(1).pow_(-alpha),
        slope=lambda q: (1 + q / (2 * alpha)).pow_(-alpha - 1).mul_(q),
    )


def profile_of(kernel: gpytorch.kernels.Kernel) -> Profile | None:
    """Profile of a registered radial kernel with one length-scale, or None for any other.

    The kernel must use all columns of the inputs.
    """
    make = _RADIAL.get(type(kernel)) if kernel.active_dims is None else None
    return None if make is None or not has_one_lengthscale(kernel) else make(kernel)


def squared_distances(x1: Tensor, x2: Tensor | None = None) -> Tensor:
    """Squared distances ‖x1ᵢ − x2ⱼ‖², (n1, n2), by matrix products of centred inputs.

    x2 = None means x2 = x1.
    """
    centre = x1.mean(0)
    a = x1 - centre
    norms = a.square().sum(1)
    if x2 is not None:
        b = x2 - centre
        result = torch.addmm(b.square().sum(1).expand(len(a), -1), a, b.mT, alpha=-2)
        return result.add_(norms[:, None]).clamp_(min=0)
    n = len(a)
    result = a.new_empty(n, n)
    for start in range(0, n, 2 * BLOCK):  # compute the upper triangle and mirror it
        stop = min(n, start + 2 * BLOCK)
        part = a[start:stop]
        rows = torch.addmm(norms[start:].expand(len(part), -1), part, a[start:].mT, alpha=-2)
        rows.add_(norms[start:stop, None]).clamp_(min=0)
        corner = rows[:, : stop - start]
        corner.copy_(0.5 * (corner + corner.mT))
        result[start:stop, start:] = rows
        result[start:, start:stop] = rows.mT
    result.fill_diagonal_(0)
    return result

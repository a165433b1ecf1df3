"""Radial kernels as functions of the squared distance, so that Gram matrices reuse distances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gpytorch
from torch import Tensor

from bayesgen.covariance.distances import decay_, least_exponent
from bayesgen.kernels import has_one_lengthscale


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


def _times_decay(a: Tensor) -> Tensor:
    """a·exp(−a) in place; negligible where the exponential is."""
    return decay_(-a).mul_(a.clamp_(max=-least_exponent(a.dtype)))


# The functions of a profile are at module level, so that posteriors that hold them can be pickled.


@radial(gpytorch.kernels.RBFKernel)
def _rbf(_: gpytorch.kernels.RBFKernel) -> Profile:
    """Squared exponential kernel, k = exp(−q/2)."""
    return Profile(_rbf_value, _rbf_slope)


def _rbf_value(q: Tensor) -> Tensor:
    return decay_(q.mul_(-0.5))


def _rbf_slope(q: Tensor) -> Tensor:
    return _times_decay(q.mul_(0.5)).mul_(2)


@radial(gpytorch.kernels.MaternKernel)
def _matern(kernel: gpytorch.kernels.MaternKernel) -> Profile:
    """Matérn kernel, Rasmussen & Williams (2006), eq. 4.14–4.17, with a = √(2ν q)."""
    return Profile(partial(_matern_value, kernel.nu), partial(_matern_slope, kernel.nu))


def _split(nu: float, q: Tensor) -> tuple[Tensor, Tensor]:
    """The distance a and exp(−a)."""
    # Beyond this distance the covariance is negligible, but the decay is not zero.
    a = q.sqrt_().mul_((2 * nu) ** 0.5).clamp_(max=-least_exponent(q.dtype))
    return a, decay_(-a)


def _matern_value(nu: float, q: Tensor) -> Tensor:
    a, decay = _split(nu, q)
    if nu == 0.5:
        return decay
    return decay.mul_(1 + a) if nu == 1.5 else decay.mul_(1 + a + a * a / 3)


def _matern_slope(nu: float, q: Tensor) -> Tensor:
    a, decay = _split(nu, q)
    if nu == 0.5:
        return decay.mul_(a)
    return decay.mul_(a * a) if nu == 1.5 else decay.mul_(a * a * (1 + a) / 3)


@radial(gpytorch.kernels.RQKernel)
def _rational_quadratic(kernel: gpytorch.kernels.RQKernel) -> Profile:
    """Rational quadratic kernel, k = (1 + q/(2α))^−α."""
    alpha = kernel.alpha.detach().squeeze()
    return Profile(partial(_rq_value, alpha), partial(_rq_slope, alpha))


def _rq_value(alpha: Tensor, q: Tensor) -> Tensor:
    return q.div_(2 * alpha).add_(1).pow_(-alpha)


def _rq_slope(alpha: Tensor, q: Tensor) -> Tensor:
    return (1 + q / (2 * alpha)).pow_(-alpha - 1).mul_(q)


def profile_of(kernel: gpytorch.kernels.Kernel) -> Profile | None:
    """Profile of a registered radial kernel with one length-scale, or None for any other."""
    make = _RADIAL.get(type(kernel))
    return None if make is None or not has_one_lengthscale(kernel) else make(kernel)

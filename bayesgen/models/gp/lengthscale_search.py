"""The best (length-scale, outputscale, noise) of many tasks from a few shared spectra."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bayesgen import kernels
from bayesgen._internal.progress import Progress
from bayesgen.covariance.gram import LengthscaleGram
from bayesgen.covariance.radial import squared_distances
from bayesgen.models import profile_search
from bayesgen.models.profile_search import ProfileMaximum
from bayesgen.spectrum.spectrum import Spectrum

# One step outwards while the best length-scale of some task lies beyond the grid.
_STEP = math.log(2.0)
# The search gives up at this many times the typical distance.
_LONGEST = 1e3
# It goes no shorter than this share of the median distance to a nearest neighbour: below, most
# points are uncorrelated with every other, the kernel is white noise in all but name, and s and σ²
# cannot be told apart, so that fit and complexity would mean nothing.
_SHORTEST = 0.5


class _Lengthscales:
    """The kernel's Gram matrices along t = log ℓ, a `profile.Family`."""

    def __init__(self, gram: LengthscaleGram, y: Tensor) -> None:
        self.gram, self.y = gram, y

    def spectrum(self, t: float) -> Spectrum:
        return Spectrum.dense(self.gram.matrix(self.y.new_tensor([t])), self.y)

    def slope(
        self, t: float, spectrum: Spectrum, scale: Tensor, noise: Tensor, alpha: Tensor
    ) -> Tensor:
        """½ s [Σ_c α_cᵀ dK α_c − C Σᵢ (uᵢᵀ dK uᵢ)/(sλᵢ + σ²)], dK = ∂K/∂ log ℓ.

        Rasmussen & Williams (2006), eq. 5.9.
        """
        dK = self.gram.slope(self.y.new_tensor([t]))
        B, n, C = alpha.shape
        assert spectrum.vectors is not None
        columns = alpha.movedim(0, 1).reshape(n, B * C)
        pull = ((dK @ columns) * columns).reshape(n, B, C).sum((0, 2))
        diagonal = ((dK @ spectrum.vectors) * spectrum.vectors).sum(0)
        inverse = 1 / (scale[:, None] * spectrum.density.nodes + noise[:, None])
        return 0.5 * scale * (pull - C * (inverse @ diagonal))

    def describe(self, t: float) -> str:
        return f"length-scale {math.exp(t):.4g}"


def search_lengthscale(
    gram: LengthscaleGram,
    y: Tensor,
    *,
    scale: Tensor | None,
    noise: Tensor | None,
    tolerance: float,
    most: int,
    progress: Progress | None,
) -> ProfileMaximum:
    """Maximise the evidence of every task over log ℓ; see `profile.maximise`.

    The first spectra are at half, once and twice the typical distance between points. The range is
    from half the median nearest-neighbour distance to a thousand times the typical distance; a
    constraint on the kernel's length-scale with finite ends replaces them.

    Args:
        gram: kernel on the inputs.
        y: targets, (B, n, C).
        scale, noise, tolerance, most, progress: as for `profile.maximise`.
    """
    typical = kernels.typical_distance(gram.x) or float(gram.start().exp())
    low, high = _range(gram, typical)
    centre = min(max(math.log(typical), low), high)
    return profile_search.search_profile(
        _Lengthscales(gram, y),
        [centre + k * _STEP for k in (-1, 0, 1)],
        low=low,
        high=high,
        step=_STEP,
        scale=scale,
        noise=noise,
        tolerance=tolerance,
        most=most,
        progress=progress,
    )


def _range(gram: LengthscaleGram, typical: float) -> tuple[float, float]:
    """Searched range of log ℓ."""
    inside = 1e-9  # gpytorch's constraints are open intervals
    floor, ceiling = kernels.lengthscale_bounds(gram.base)
    low = (
        math.log(floor) + inside if floor > 0 else math.log(_SHORTEST * _neighbour(gram.x, typical))
    )
    high = math.log(ceiling) - inside if ceiling < math.inf else math.log(_LONGEST * typical)
    return low, max(low, high)


def _neighbour(x: Tensor, otherwise: float) -> float:
    """Median distance of a point (of 500, evenly spread) to the nearest other at all apart."""
    some = x[:: max(1, len(x) // 500)]
    distances = squared_distances(some, x)
    # What rounding leaves of coinciding points is no distance.
    apart = distances > 1e3 * torch.finfo(x.dtype).eps * distances.max()
    nearest = torch.where(apart, distances, math.inf).amin(1)
    nearest = nearest[nearest < math.inf]
    return float(nearest.median().sqrt()) if nearest.numel() else otherwise

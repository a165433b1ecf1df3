"""Search length-scale, outputscale and noise variance of many tasks with a few shared spectra."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bayesgen import kernels
from bayesgen._internal.progress import Progress
from bayesgen.covariance.gram import LengthscaleGram
from bayesgen.covariance.radial import squared_distances
from bayesgen.models import profile_search
from bayesgen.models.profile_search import Line, ProfileMaximum
from bayesgen.spectrum.spectrum import Spectrum

# Step of log ℓ between the first spectra, and outwards where a task gains beyond them.
_STEP = math.log(2.0)
# Largest length-scale, as a multiple of the typical distance between points.
_LONGEST = 1e3
# Smallest length-scale, as a share of the median distance to a nearest neighbour. Below it most
# points are uncorrelated with all others, so that the kernel is close to white noise. Then s and σ²
# cannot be distinguished, and the split into fit and complexity has no meaning.
_SHORTEST = 0.5


class _Lengthscales:
    """Gram matrices as a function of t = log ℓ; implements `profile_search.Family`."""

    def __init__(self, gram: LengthscaleGram, y: Tensor) -> None:
        self.gram, self.y = gram, y

    def spectrum(self, t: float) -> Spectrum:
        return Spectrum.dense(self.gram.matrix(self.y.new_tensor([t])), self.y)

    def slope(
        self, t: float, spectrum: Spectrum, scale: Tensor, noise: Tensor, alpha: Tensor
    ) -> Tensor:
        """Derivative of the log marginal likelihood in log ℓ, (B,).

            ½ s [Σ_c α_cᵀ dK α_c − C Σᵢ (uᵢᵀ dK uᵢ)/(sλᵢ + σ²)],  dK = ∂K/∂ log ℓ

        Source: Rasmussen & Williams (2006), eq. 5.9.
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
    """Maximise the evidence of every task over log ℓ; see `profile_search.search_profile`.

    The first spectra are at 0.5, 1 and 2 times the typical distance between points. The range is
    from half the median nearest-neighbour distance to a thousand times the typical distance. Finite
    ends of a constraint on the kernel's length-scale replace these limits.

    Args:
        gram: kernel on the inputs.
        y: targets, (B, n, C).
        scale, noise, tolerance, most, progress: as in `profile_search.search_profile`.
    """
    typical = kernels.typical_distance(gram.x) or float(gram.start().exp())
    low, high = _range(gram, typical)
    centre = min(max(math.log(typical), low), high)
    return profile_search.search_profile(
        _Lengthscales(gram, y),
        Line([centre + k * _STEP for k in (-1, 0, 1)], low, high, _STEP),
        scale=scale,
        noise=noise,
        tolerance=tolerance,
        most=most,
        progress=progress,
    )


def _range(gram: LengthscaleGram, typical: float) -> tuple[float, float]:
    """Lower and upper end of the searched range of log ℓ."""
    inside = 1e-9  # gpytorch's constraints are open intervals
    floor, ceiling = kernels.lengthscale_bounds(gram.base)
    low = (
        math.log(floor) + inside if floor > 0 else math.log(_SHORTEST * _neighbour(gram.x, typical))
    )
    high = math.log(ceiling) - inside if ceiling < math.inf else math.log(_LONGEST * typical)
    return low, max(low, high)


def _neighbour(x: Tensor, otherwise: float) -> float:
    """Median distance to the nearest distinct point, over at least 500 evenly chosen points.

    Args:
        x: inputs, (n, d).
        otherwise: the result where all points coincide.
    """
    some = x[:: max(1, len(x) // 500)]
    distances = squared_distances(some, x)
    # Coinciding points have distances at the rounding level, which are ignored.
    apart = distances > 1e3 * torch.finfo(x.dtype).eps * distances.max()
    nearest = torch.where(apart, distances, math.inf).amin(1)
    nearest = nearest[nearest < math.inf]
    return float(nearest.median().sqrt()) if nearest.numel() else otherwise

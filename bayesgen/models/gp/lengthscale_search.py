"""Search length-scale, outputscale and noise variance of many tasks with a few shared spectra."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from bayesgen import kernels
from bayesgen._internal.progress import Progress
from bayesgen.covariance.gram import LengthscaleGram
from bayesgen.models import profile_search
from bayesgen.models.profile_search import Line, ProfileMaximum
from bayesgen.models.search.inputs import InputScales, nearest_distance
from bayesgen.models.search.subset import subset
from bayesgen.spectrum.maximise import maximise
from bayesgen.spectrum.spectrum import Spectrum

# Step of log ℓ between the first spectra, and outwards where a task gains beyond them.
_STEP = math.log(2.0)
# Largest length-scale, as a multiple of the typical distance between points.
_LONGEST = 1e3
# Largest length-scale that the first spectra cover, as a multiple of the range of the inputs.
_COVERED = 10.0
# Step of log ℓ between them, the number of points that they use, and the largest number of starts.
_COARSE, _FEW, _MOST = 0.5 * math.log(2.0), 120, 6
# Loss against the best, in nats on these points, up to which a local maximum is a start.
_MARGIN = 15.0
# Smallest length-scale, as a share of the median distance to a nearest neighbour. Below it most
# points are uncorrelated with all others, so that the kernel is close to white noise. Then s and σ²
# cannot be distinguished, and the split into fit and complexity has no meaning.
_SHORTEST = 0.5
# The same where σ² is kept, so that white noise of the kernel is distinguished from it.
_SHORTEST_BESIDE_NOISE = 0.1


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
    starts: int = 6,
    seed: int = 0,
) -> ProfileMaximum:
    """Maximise the evidence of every task over log ℓ; see `profile_search.search_profile`.

    The range is from half the median nearest-neighbour distance (a tenth where σ² is kept) to a
    thousand times the typical distance between points. Finite ends of a constraint on the kernel's
    length-scale replace these limits. Spectra of at most 120 of the points first cover the whole
    range and the kernel's own length-scale. The spectra of all points then start at the local
    maxima that they show.

    Args:
        gram: kernel on the inputs.
        y: targets, (B, n, C).
        scale, noise, tolerance, most, progress: as in `profile_search.search_profile`.
        starts: with 1, the spectra start at the kernel's own length-scale only.
        seed: seed of the choice of the points.
    """
    x = gram.active(gram.x)
    own = float(gram.start())
    low, high = searched(gram, noise_is_kept=noise is not None)
    if starts == 1:
        first = [min(max(own, low), high)]
    else:
        first = _promising(gram, y, scale, noise, low, high, InputScales(x), seed)
    return profile_search.search_profile(
        _Lengthscales(gram, y),
        Line(first, low, high, _STEP),
        scale=scale,
        noise=noise,
        tolerance=tolerance,
        most=most,
        progress=progress,
    )


def _promising(
    gram: LengthscaleGram,
    y: Tensor,
    scale: Tensor | None,
    noise: Tensor | None,
    low: float,
    high: float,
    inputs: InputScales,
    seed: int,
) -> list[float]:
    """Values of log ℓ near the local maxima that the evidence of some of the points has."""
    rows = subset(gram.x, _FEW, np.random.default_rng(seed))
    few = gram if rows is None else gram.on(gram.x[rows])
    assert isinstance(few, LengthscaleGram)
    targets = y if rows is None else y[:, rows]
    columns = tuple(range(inputs.x.shape[1]))
    end = min(high, max(low, math.log(_COVERED * inputs.diameter(columns))))
    count = max(2, math.ceil((end - low) / _COARSE) + 1)
    own = min(max(float(gram.start()), low), high)
    grid = sorted({*np.linspace(low, end, count).tolist(), own})
    values = np.stack([_profile(few, targets, scale, noise, t) for t in grid])  # (T, B)
    edge = np.full((1, values.shape[1]), -np.inf)
    padded = np.concatenate([edge, values, edge])
    peak = (values >= padded[:-2]) & (values >= padded[2:])
    # A start costs a spectrum of all points, so that each serves all maxima within a step.
    chosen: list[float] = []
    tops = np.where(peak & (values > values.max(0) - _MARGIN), values - values.max(0), -np.inf)
    for k in np.argsort(-tops.max(1), kind="stable"):
        if np.isfinite(tops[k].max()) and all(abs(grid[k] - t) > _STEP for t in chosen):
            chosen.append(grid[k])
    return chosen[:_MOST] or [own]


def _profile(
    gram: LengthscaleGram, y: Tensor, scale: Tensor | None, noise: Tensor | None, t: float
) -> np.ndarray:
    """Evidence of each task at log ℓ = t and its best scale and noise, (B,)."""
    spectrum = Spectrum.dense(gram.matrix(y.new_tensor([t])), y)
    top = maximise(spectrum, scale, noise)
    values = top.parts.log_marginal_likelihood.double().cpu().numpy()
    return np.where(np.isfinite(values), values, -np.inf)


def searched(gram: LengthscaleGram, *, noise_is_kept: bool) -> tuple[float, float]:
    """Lower and upper end of the searched range of log ℓ.

    Args:
        gram: kernel on the inputs.
        noise_is_kept: whether σ² is kept; shorter length-scales are then searched.
    """
    x = gram.active(gram.x)
    typical = kernels.typical_distance(x) or math.exp(float(gram.start()))
    share = _SHORTEST_BESIDE_NOISE if noise_is_kept else _SHORTEST
    low, high = limits(gram)
    low = low if low > -math.inf else math.log(share * nearest_distance(x, typical))
    high = high if high < math.inf else math.log(_LONGEST * typical)
    return min(low, high), max(low, high)


def limits(gram: LengthscaleGram) -> tuple[float, float]:
    """Ends of log ℓ that the kernel's constraint allows; −∞ and ∞ where it has none."""
    inside = 8 * torch.finfo(gram.x.dtype).eps  # gpytorch's constraints are open intervals
    floor, ceiling = kernels.lengthscale_bounds(gram.base)
    low = math.log(floor) + inside if floor > 0 else -math.inf
    high = math.log(ceiling) - inside if ceiling < math.inf else math.inf
    return low, high

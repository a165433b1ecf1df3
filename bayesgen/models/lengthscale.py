"""The best (length-scale, outputscale, noise) of many labellings from a few shared spectra."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy.interpolate import CubicHermiteSpline
from torch import Tensor

from bayesgen import kernels
from bayesgen.evidence import Evidence, combine
from bayesgen.gram import LengthscaleGram, squared_distances
from bayesgen.spectrum import Spectrum

Progress = Callable[[int, int, str], None]

# One step outwards while the best length-scale of some labelling lies beyond the grid.
_STEP = math.log(2.0)
# The search gives up at this many times the typical distance.
_LONGEST = 1e3
# It goes no shorter than this share of the median distance to a nearest neighbour: below, most
# points are uncorrelated with every other, the kernel is white noise in all but name, and s and σ²
# cannot be told apart, so that fit and complexity would mean nothing.
_SHORTEST = 0.5


@dataclass
class ProfileMaximum:
    """Best settings for each labelling.

    Attributes:
        log_lengthscale, scale, noise: (B,).
        alpha: (sK + σ²I)⁻¹ y there, (B, n, C).
        evidence: batch shape (B,).
        slope: ∂ log p / ∂ log ℓ there, (B,).
        at_bound: (B,), whether σ²/s or ℓ ended on the edge of what was searched.
        spectra: how many spectra it took.
    """

    log_lengthscale: Tensor
    scale: Tensor
    noise: Tensor
    alpha: Tensor
    evidence: Evidence
    slope: Tensor
    at_bound: Tensor
    spectra: int


class _Search:
    """The profile evidence at the length-scales tried so far, and each labelling's best."""

    def __init__(
        self, gram: LengthscaleGram, y: Tensor, scale: Tensor | None, noise: Tensor | None
    ) -> None:
        self.gram, self.y, self.scale, self.noise = gram, y, scale, noise
        self.nodes: list[float] = []
        self.values: list[np.ndarray] = []
        self.slopes: list[np.ndarray] = []
        self.best: ProfileMaximum | None = None

    def evaluate(self, log_lengthscale: float) -> None:
        theta = self.y.new_tensor([log_lengthscale])
        spectrum = Spectrum.dense(self.gram.matrix(theta), self.y)
        top = spectrum.maximise(scale=self.scale, noise=self.noise)
        alpha = spectrum.solve(top.scale, top.noise)
        slope = _slope(spectrum, self.gram.slope(theta), top.scale, top.noise, alpha)
        self.nodes.append(log_lengthscale)
        self.values.append(top.evidence.log_marginal_likelihood.cpu().numpy())
        self.slopes.append(slope.cpu().numpy())
        new = ProfileMaximum(
            torch.full_like(top.scale, log_lengthscale),
            top.scale,
            top.noise,
            alpha,
            top.evidence,
            slope,
            top.at_bound,
            len(self.nodes),
        )
        self.best = new if self.best is None else _better(self.best, new)

    def ordered(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        order = np.argsort(self.nodes)
        return (
            np.array(self.nodes)[order],
            np.stack(self.values)[order],
            np.stack(self.slopes)[order],
        )

    def promising(self, low: float, high: float, tolerance: float) -> float | None:
        """The next log ℓ to try, or None where no labelling has more than `tolerance` to gain."""
        nodes, values, slopes = self.ordered()
        reached = values.max(0)
        # Beyond the ends a labelling is expected to gain what its slope there promises.
        for end, direction, limit in ((0, -1.0, low), (-1, 1.0, high)):
            step = min(_STEP, direction * (limit - nodes[end]))
            promise = np.where(values[end] == reached, direction * slopes[end] * step, 0.0)
            if step > 0 and promise.max() > tolerance:
                return float(nodes[end] + direction * step)
        spline = CubicHermiteSpline(nodes, values, slopes)
        fine = np.concatenate(
            [np.linspace(a, b, 100, endpoint=False)[1:] for a, b in pairwise(nodes)]
        )
        gains = spline(fine) - reached  # (points, B)
        wanted = gains.max(0) > tolerance
        if not wanted.any():
            return None
        # Of the labellings' own optima, the one that promises most to all of them together.
        candidates = np.unique(gains[:, wanted].argmax(0))
        total = np.clip(gains[candidates], 0, None).sum(1)
        return float(fine[candidates[total.argmax()]])


def maximise(
    gram: LengthscaleGram,
    y: Tensor,
    *,
    scale: Tensor | None,
    noise: Tensor | None,
    tolerance: float,
    most: int,
    progress: Progress | None,
) -> ProfileMaximum:
    """Maximise the evidence of every labelling over ℓ and, where they are not given, s and σ².

    A spectrum is computed at half, once and twice the typical distance between points. Each gives
    every labelling's best (s, σ²) there, the profile evidence, with its exact slope in log ℓ. A
    cubic Hermite interpolant of each labelling's profile then says where it would gain, and how
    much; the next spectrum goes where the labellings gain most together, until none would gain
    more than the tolerance. What is returned was computed at a spectrum, never interpolated.

    The range is from half the median nearest-neighbour distance to a thousand times the typical
    distance; a constraint on the kernel's length-scale with finite ends replaces them.

    Args:
        gram: kernel on the inputs.
        y: targets, (B, n, C).
        scale: outputscale to keep, or None.
        noise: σ² to keep, or None.
        tolerance: nats that a labelling may still stand to gain.
        most: spectra at most; a warning says when that was not enough.
        progress: called as progress(done, expected, what) after each spectrum.
    """
    typical = kernels.typical_distance(gram.x) or float(gram.start().exp())
    low, high = _range(gram, typical)
    centre = min(max(math.log(typical), low), high)
    search = _Search(gram, y, scale, noise)
    start = {min(max(centre + k * _STEP, low), high) for k in (-1, 0, 1)}
    for node in sorted(start):
        search.evaluate(node)
        _report(progress, search)
    while (point := search.promising(low, high, tolerance)) is not None:
        if len(search.nodes) >= most:
            warnings.warn(
                f"the length-scale search stopped at {most} spectra with more than the tolerance "
                f"of {tolerance:.3g} nats still to gain; raise max_spectra or the tolerance",
                RuntimeWarning,
                stacklevel=3,
            )
            break
        search.evaluate(point)
        _report(progress, search)
    assert search.best is not None
    best = search.best
    shorter = (best.log_lengthscale <= low) & (best.slope < -tolerance)
    longer = (best.log_lengthscale >= high) & (best.slope > tolerance)
    best.at_bound = best.at_bound | shorter | longer
    return best


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


def _report(progress: Progress | None, search: _Search) -> None:
    if progress is not None:
        done = len(search.nodes)
        lengthscale = math.exp(search.nodes[-1])
        # How many more is not known beforehand; ten is what the studies in benchmarks/ take.
        progress(done, max(10, done + 1), f"spectrum {done} at length-scale {lengthscale:.4g}")


def _slope(spectrum: Spectrum, dK: Tensor, scale: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """∂/∂ log ℓ of each labelling's log evidence, (B,), at its (s, σ²); dK = ∂K/∂ log ℓ.

        ½ s [Σ_c α_cᵀ dK α_c − C Σᵢ (uᵢᵀ dK uᵢ)/(sλᵢ + σ²)]

    By the envelope theorem it is the slope of the profile too (Rasmussen & Williams, eq. 5.9).
    """
    B, n, C = alpha.shape
    assert spectrum.vectors is not None
    columns = alpha.movedim(0, 1).reshape(n, B * C)
    pull = ((dK @ columns) * columns).reshape(n, B, C).sum((0, 2))
    diagonal = ((dK @ spectrum.vectors) * spectrum.vectors).sum(0)
    inverse = 1 / (scale[:, None] * spectrum.density.nodes + noise[:, None])
    return 0.5 * scale * (pull - C * (inverse @ diagonal))


def _better(old: ProfileMaximum, new: ProfileMaximum) -> ProfileMaximum:
    """Labelling by labelling, whichever has more evidence."""
    won = new.evidence.log_marginal_likelihood > old.evidence.log_marginal_likelihood

    def pick(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(won.reshape(-1, *[1] * (b.ndim - 1)), b, a)

    return ProfileMaximum(
        pick(old.log_lengthscale, new.log_lengthscale),
        pick(old.scale, new.scale),
        pick(old.noise, new.noise),
        pick(old.alpha, new.alpha),
        combine(pick, old.evidence, new.evidence),
        pick(old.slope, new.slope),
        pick(old.at_bound, new.at_bound),
        new.spectra,
    )

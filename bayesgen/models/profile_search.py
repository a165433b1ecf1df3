"""The best setting of many tasks along one parameter of K, from a few shared spectra."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bayesgen._internal.progress import Progress
from bayesgen.evidence import EvidenceParts, better
from bayesgen.spectrum.maximise import maximise
from bayesgen.spectrum.spectrum import Spectrum


class Family(Protocol):
    """Covariances K(t) on fixed inputs along one real parameter t."""

    def spectrum(self, t: float) -> Spectrum:
        """The spectrum of K(t) with the targets, (B, n, C)."""

    def slope(
        self, t: float, spectrum: Spectrum, scale: Tensor, noise: Tensor, alpha: Tensor
    ) -> Tensor:
        """∂ log p/∂t of each task at its (s, σ²), (B,); α = (sK + σ²I)⁻¹y, (B, n, C).

        By the envelope theorem it is the slope of the profile over (s, σ²) too.
        """

    def describe(self, t: float) -> str:
        """The parameter there, in words."""


@dataclass
class ProfileMaximum:
    """Best settings for each task.

    Attributes:
        parameter: t, (B,).
        scale, noise: (B,).
        alpha: (sK + σ²I)⁻¹ y there, (B, n, C).
        parts: of the evidence there, batch shape (B,).
        slope: ∂ log p/∂t there, (B,).
        at_bound: (B,), whether σ²/s or t ended on the edge of what was searched.
        spectra: how many spectra it took.
    """

    parameter: Tensor
    scale: Tensor
    noise: Tensor
    alpha: Tensor
    parts: EvidenceParts
    slope: Tensor
    at_bound: Tensor
    spectra: int


class _Search:
    """The profile evidence at the parameters tried so far, and each task's best."""

    def __init__(self, family: Family, scale: Tensor | None, noise: Tensor | None) -> None:
        self.family, self.scale, self.noise = family, scale, noise
        self.nodes: list[float] = []
        self.values: list[np.ndarray] = []
        self.slopes: list[np.ndarray] = []
        self.best: ProfileMaximum | None = None

    def evaluate(self, t: float) -> None:
        spectrum = self.family.spectrum(t)
        top = maximise(spectrum, self.scale, self.noise)
        alpha = spectrum.unchecked_solve(top.scale, top.noise)
        slope = self.family.slope(t, spectrum, top.scale, top.noise, alpha)
        self.nodes.append(t)
        self.values.append(top.parts.log_marginal_likelihood.cpu().numpy())
        self.slopes.append(slope.cpu().numpy())
        new = ProfileMaximum(
            torch.full_like(top.scale, t),
            top.scale,
            top.noise,
            alpha,
            top.parts,
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

    def promising(self, low: float, high: float, step: float, tolerance: float) -> float | None:
        """The next t to try, or None where no task has more than `tolerance` to gain."""
        from scipy.interpolate import CubicHermiteSpline

        nodes, values, slopes = self.ordered()
        reached = values.max(0)
        # Beyond the ends a task is expected to gain what its slope there promises.
        for end, direction, limit in ((0, -1.0, low), (-1, 1.0, high)):
            out = min(step, direction * (limit - nodes[end]))
            promise = np.where(values[end] == reached, direction * slopes[end] * out, 0.0)
            if out > 0 and promise.max() > tolerance:
                return float(nodes[end] + direction * out)
        spline = CubicHermiteSpline(nodes, values, slopes)
        fine = np.concatenate(
            [np.linspace(a, b, 100, endpoint=False)[1:] for a, b in pairwise(nodes)]
        )
        gains = spline(fine) - reached  # (points, B)
        wanted = gains.max(0) > tolerance
        if not wanted.any():
            return None
        # Of the tasks' own optima, the one that promises most to all of them together.
        candidates = np.unique(gains[:, wanted].argmax(0))
        total = np.clip(gains[candidates], 0, None).sum(1)
        return float(fine[candidates[total.argmax()]])


def search_profile(
    family: Family,
    start: Sequence[float],
    *,
    low: float,
    high: float,
    step: float,
    scale: Tensor | None,
    noise: Tensor | None,
    tolerance: float,
    most: int,
    progress: Progress | None,
) -> ProfileMaximum:
    """Maximise the evidence of every task over t and, where they are not given, s and σ².

    Each spectrum gives every task's best (s, σ²) there, the profile evidence, with its exact
    slope in t. A cubic Hermite interpolant of each task's profile then says where it would
    gain, and how much; the next spectrum goes where the tasks gain most together, until none
    would gain more than the tolerance. What is returned was computed at a spectrum, never
    interpolated.

    Args:
        family: covariances and targets.
        start: where to compute the first spectra, at least one.
        low, high: the range of t.
        step: how far outwards to go at once while a task still gains there.
        scale: outputscale to keep, or None.
        noise: σ² to keep, or None.
        tolerance: nats that a task may still stand to gain.
        most: spectra at most; a warning says when that was not enough.
        progress: called as progress(done, expected, what) after each spectrum.
    """
    search = _Search(family, scale, noise)
    for t in sorted({min(max(t, low), high) for t in start}):
        search.evaluate(t)
        _report(progress, search)
    while (point := search.promising(low, high, step, tolerance)) is not None:
        if len(search.nodes) >= most:
            warnings.warn(
                f"the search, at {family.describe(point)}, stopped at {most} spectra with more "
                f"than the tolerance of {tolerance:.3g} nats still to gain; raise max_spectra or "
                "the tolerance",
                RuntimeWarning,
                stacklevel=3,
            )
            break
        search.evaluate(point)
        _report(progress, search)
    assert search.best is not None
    best = search.best
    below = (best.parameter <= low) & (best.slope < -tolerance)
    above = (best.parameter >= high) & (best.slope > tolerance)
    best.at_bound = best.at_bound | below | above
    return best


def _report(progress: Progress | None, search: _Search) -> None:
    if progress is not None:
        done = len(search.nodes)
        # How many more is not known beforehand; ten is what the studies in benchmarks/ take.
        where = search.family.describe(search.nodes[-1])
        progress(done, max(10, done + 1), f"spectrum {done} at {where}")


def _better(old: ProfileMaximum, new: ProfileMaximum) -> ProfileMaximum:
    """Task by task, whichever has more evidence."""
    pick = better(old.parts, new.parts)
    return ProfileMaximum(
        pick(old.parameter, new.parameter),
        pick(old.scale, new.scale),
        pick(old.noise, new.noise),
        pick(old.alpha, new.alpha),
        old.parts.map(pick, new.parts),
        pick(old.slope, new.slope),
        pick(old.at_bound, new.at_bound),
        new.spectra,
    )

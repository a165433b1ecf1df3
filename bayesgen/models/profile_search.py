"""Maximise the evidence of many tasks over one parameter of K, with a few shared spectra."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bayesgen._internal.progress import Progress
from bayesgen._internal.user_warning import warn
from bayesgen.evidence import EvidenceParts, better
from bayesgen.spectrum.maximise import maximise
from bayesgen.spectrum.spectrum import Spectrum

# Largest distance between the points at which the interpolants are compared.
_SPACING = 0.002


class Family(Protocol):
    """Covariances K(t) on fixed inputs as a function of one real parameter t."""

    def spectrum(self, t: float) -> Spectrum:
        """The spectrum of K(t) with the targets, (B, n, C)."""

    def slope(
        self, t: float, spectrum: Spectrum, scale: Tensor, noise: Tensor, alpha: Tensor
    ) -> Tensor:
        """Derivative ∂ log p/∂t of each task, (B,).

        At the best (s, σ²) of a task it is also the derivative of the profile evidence, by the
        envelope theorem.

        Args:
            t: the parameter.
            spectrum: spectrum of K(t) with the targets.
            scale: outputscale s of each task, (B,).
            noise: noise variance σ² of each task, (B,).
            alpha: (sK + σ²I)⁻¹y, (B, n, C).
        """

    def describe(self, t: float) -> str:
        """Description of the parameter's value, for progress reports and warnings."""


@dataclass
class ProfileMaximum:
    """Setting of largest evidence for each task, with the evidence and the solve at it.

    Attributes:
        parameter: the parameter t, (B,).
        scale: outputscale s, (B,).
        noise: noise variance σ², (B,).
        alpha: (sK + σ²I)⁻¹y, (B, n, C).
        parts: the `EvidenceParts`, batch shape (B,).
        slope: derivative ∂ log p/∂t, (B,).
        at_bound: whether σ²/s or t lies on the edge of the searched range, (B,).
        spectra: number of spectra that were computed.
        at_edge: whether t lies on the edge of the searched range, (B,).
        tried: the settings (t, log s, log σ²) of each task at each spectrum in the order of t,
            (k, B, 3), with the evidence and its slope in t, each (k, B).
    """

    parameter: Tensor
    scale: Tensor
    noise: Tensor
    alpha: Tensor
    parts: EvidenceParts
    slope: Tensor
    at_bound: Tensor
    spectra: int
    at_edge: Tensor | None = None
    tried: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None


class _Search:
    """The profile evidence at the parameters tried so far, and the best setting of each task."""

    def __init__(self, family: Family, scale: Tensor | None, noise: Tensor | None) -> None:
        self.family, self.scale, self.noise = family, scale, noise
        self.nodes: list[float] = []
        self.values: list[np.ndarray] = []
        self.slopes: list[np.ndarray] = []
        self.settings: list[np.ndarray] = []
        self.best: ProfileMaximum | None = None

    def evaluate(self, t: float) -> None:
        spectrum = self.family.spectrum(t)
        top = maximise(spectrum, self.scale, self.noise)
        alpha = spectrum.unchecked_solve(top.scale, top.noise)
        slope = self.family.slope(t, spectrum, top.scale, top.noise, alpha)
        self.nodes.append(t)
        self.values.append(top.parts.log_marginal_likelihood.cpu().numpy())
        self.slopes.append(slope.cpu().numpy())
        pair = torch.stack([top.scale.log(), top.noise.log()], -1).double().cpu().numpy()
        self.settings.append(np.concatenate([np.full((len(pair), 1), t), pair], 1))
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

    def promising(self, line: Line, tolerance: float) -> float | None:
        """The next t to try, or None where no task is expected to gain more than `tolerance`."""
        from scipy.interpolate import CubicHermiteSpline

        nodes, values, slopes = self.ordered()
        reached = values.max(0)
        # Beyond the ends, the slope at the end predicts a task's gain.
        for end, direction, limit in ((0, -1.0, line.low), (-1, 1.0, line.high)):
            out = min(line.step, direction * (limit - nodes[end]))
            promise = np.where(values[end] == reached, direction * slopes[end] * out, 0.0)
            if out > 0 and promise.max() > tolerance:
                return float(nodes[end] + direction * out)
        if len(nodes) == 1:
            return None
        spline = CubicHermiteSpline(nodes, values, slopes)
        fine = np.concatenate(
            [np.linspace(a, b, _points(b - a), endpoint=False)[1:] for a, b in pairwise(nodes)]
        )
        gains = spline(fine) - reached  # (points, B)
        wanted = gains.max(0) > tolerance
        if not wanted.any():
            return None
        # Among the optima of the tasks, the one with the largest predicted gain over all tasks.
        candidates = np.unique(gains[:, wanted].argmax(0))
        total = np.clip(gains[candidates], 0, None).sum(1)
        return float(fine[candidates[total.argmax()]])


def _points(gap: float) -> int:
    """Number of points between two nodes at which the interpolants are compared."""
    return max(100, math.ceil(gap / _SPACING))


@dataclass(frozen=True)
class Line:
    """The part of the parameter's axis that is searched.

    Attributes:
        start: values of t for the first spectra, at least one.
        low, high: range of t.
        step: step outwards while a task still gains beyond the ends.
    """

    start: Sequence[float]
    low: float
    high: float
    step: float


def search_profile(
    family: Family,
    line: Line,
    *,
    scale: Tensor | None,
    noise: Tensor | None,
    tolerance: float,
    most: int,
    progress: Progress | None,
) -> ProfileMaximum:
    """Maximise the evidence of every task over t and, where they are not given, over s and σ².

    Each spectrum gives the best (s, σ²) of every task at one t. The evidence there is the profile
    evidence, and its derivative in t is exact. A cubic Hermite interpolant of each task's profile
    predicts where the task would gain, and how much. The next spectrum is computed where the total
    predicted gain is largest, until no task is expected to gain more than the tolerance. All
    returned values were computed from a spectrum; none is interpolated.

    Args:
        family: covariances with targets.
        line: where t is searched.
        scale: outputscale to keep, () or (B,), or None to search it.
        noise: noise variance to keep, () or (B,), or None to search it.
        tolerance: predicted gain of a task, in nats, below which the search stops.
        most: largest number of spectra.
        progress: called as progress(done, expected, what) after each spectrum.

    Warns:
        RuntimeWarning: the search stopped at the largest number of spectra.
    """
    low, high = line.low, line.high
    search = _Search(family, scale, noise)
    for t in sorted({min(max(t, low), high) for t in line.start}):
        search.evaluate(t)
        _report(progress, search)
    while (point := search.promising(line, tolerance)) is not None:
        if len(search.nodes) >= most:
            warn(
                f"the search, at {family.describe(point)}, stopped at {most} spectra with more "
                f"than the tolerance of {tolerance:.3g} nats still to gain; raise max_spectra or "
                "the tolerance"
            )
            break
        search.evaluate(point)
        _report(progress, search)
    assert search.best is not None
    best = search.best
    below = (best.parameter <= low) & (best.slope < -tolerance)
    above = (best.parameter >= high) & (best.slope > tolerance)
    best.at_edge = below | above
    best.at_bound = best.at_bound | best.at_edge
    order = np.argsort(search.nodes)
    _, values, slopes = search.ordered()
    best.tried = np.stack(search.settings)[order], values, slopes
    return best


def _report(progress: Progress | None, search: _Search) -> None:
    if progress is not None:
        done = len(search.nodes)
        # The total is unknown in advance; the studies in benchmarks/ take about ten spectra.
        where = search.family.describe(search.nodes[-1])
        progress(done, max(10, done + 1), f"spectrum {done} at {where}")


def _better(old: ProfileMaximum, new: ProfileMaximum) -> ProfileMaximum:
    """For each task, the one of two settings with more evidence."""
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

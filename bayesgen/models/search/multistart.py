"""Search from many starts: climb from the best candidates, on few points first, and finish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bayesgen.errors import NotConvergedError
from bayesgen.models.search.ascent import Box, Climb, Stop

# Two ends of climbs are one mode where their values and parameters differ by less than this.
_SAME_VALUE, _SAME_POINT = 0.02, 0.1
# Ends within this distance of the best, in nats, are finished too: they may lie below its mode.
_NEAR = 0.5

Report = Callable[[str], None]


class Objective(Protocol):
    """A log marginal likelihood of one task as a function of z (P,), at many z together."""

    def __call__(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values (S,) and gradients (S, P) at z (S, P); NaN where the value does not exist.

        Raises:
            ValueError, NotConvergedError: the value exists at none of the points.
        """

    def values(self, z: np.ndarray) -> np.ndarray:
        """Values alone."""

    def curvatures(self, z: np.ndarray) -> np.ndarray | None:
        """Fisher information (S, P, P) at z (S, P), or None where it is not known."""


@dataclass(frozen=True)
class Mode:
    """A local maximum.

    Attributes:
        point: the parameters z, (P,).
        value: log marginal likelihood in nats.
        starts: number of starts that led there.
        steepest: largest entry of the gradient in nats, over the learnt parameters that are free.
    """

    point: np.ndarray
    value: float
    starts: int
    steepest: float


@dataclass(frozen=True)
class Rung:
    """One stage of a search.

    Attributes:
        objective: the log marginal likelihood on the points of this stage.
        climbs: number of starts that are climbed.
        stop: when each climb ends.
    """

    objective: Objective
    climbs: int
    stop: Stop


@dataclass
class _Start:
    """A start with the climb from it, the number of starts it stands for, and if it is kept."""

    climb: Climb
    count: int
    kept: bool


def search(
    candidates: Sequence[np.ndarray],
    kept: Sequence[np.ndarray],
    rungs: Sequence[Rung],
    box: Box,
    report: Report | None = None,
) -> list[Mode]:
    """Climb from the best candidates, stage by stage on more points, and finish the best.

    Args:
        candidates: starts in falling order of their promise.
        kept: starts that are climbed at every stage whatever their promise.
        rungs: the stages, from few points to all. Stages on the same points continue their climbs.
        box: which parameters are learnt, and where.
        report: called with a text after each step of the climbs.

    Returns:
        The modes found on all points, the best first. The gradient at the best is below 10⁻³ nats
        where rounding allows it.

    Raises:
        ValueError, NotConvergedError: the value exists at no start.
    """
    points = [(z, 1) for z in candidates]
    starts: list[_Start] = []
    before: Objective | None = None
    for level, rung in enumerate(rungs):
        text = f"stage {level + 1} of {len(rungs)}"
        if rung.objective is before:
            starts = starts[: rung.climbs] + [s for s in starts[rung.climbs :] if s.kept]
        else:
            chosen = [(z, count, False) for z, count in points[: rung.climbs]]
            chosen += [(z, 1, True) for z in kept]
            starts = _begun(rung.objective, chosen, box)
        _climb_all(rung, starts, text, report)
        starts = distinct(starts, rung.objective)
        points = [(s.climb.point, s.count) for s in starts]
        before = rung.objective
    _finish(rungs[-1].objective, starts, report)
    starts = distinct(starts, rungs[-1].objective)
    return [Mode(s.climb.point, s.climb.value, s.count, s.climb.steepest) for s in starts]


def _begun(
    objective: Objective, chosen: list[tuple[np.ndarray, int, bool]], box: Box
) -> list[_Start]:
    """Climbs from the points at which the value exists."""
    z = box.clip(np.stack([point for point, _, _ in chosen]))
    values, gradients = objective(z)
    good = np.flatnonzero(np.isfinite(values) & np.isfinite(gradients).all(1))
    if not len(good):
        raise ValueError(
            "the log marginal likelihood or its gradient is not finite at any start; the kernel or "
            "the likelihood may have no derivative there"
        )
    curvatures = objective.curvatures(z[good])
    starts = []
    for number, k in enumerate(good):
        curvature = None if curvatures is None else curvatures[number]
        climb = Climb(z[k], float(values[k]), gradients[k], box, curvature)
        starts.append(_Start(climb, *chosen[k][1:]))
    return starts


def _climb_all(rung: Rung, starts: list[_Start], text: str, report: Report | None) -> None:
    """Climb from all starts, with the values of one step of all climbs computed together."""
    step = 0
    while True:
        proposals = [(s.climb, s.climb.proposal(rung.stop)) for s in starts]
        stuck = [climb for climb, z in proposals if z is None and climb.wants_curvature]
        if stuck:
            curvatures = rung.objective.curvatures(np.stack([c.point for c in stuck]))
            for k, climb in enumerate(stuck):
                climb.refresh(None if curvatures is None else curvatures[k])
            continue
        live = [(climb, z) for climb, z in proposals if z is not None]
        if not live:
            return
        step += 1
        try:
            values, gradients = rung.objective(np.stack([z for _, z in live]))
        except (ValueError, NotConvergedError):
            nothing = np.full(len(live[0][1]), np.nan)
            for climb, _ in live:
                climb.tell(np.nan, nothing)
            continue
        for (climb, _), value, gradient in zip(live, values, gradients, strict=True):
            climb.tell(float(value), gradient)
        if report is not None:
            report(f"{text}, step {step} of {len(live)} climbs")


def _finish(objective: Objective, starts: list[_Start], report: Report | None) -> None:
    """Climb from the best end, and from those that may lie below its mode, to their summits."""
    starts.sort(key=lambda s: -s.climb.value)
    near = [s for s in starts[:3] if s.climb.value > starts[0].climb.value - _NEAR]
    for start in near:
        start.climb.evaluations = 1
    _climb_all(Rung(objective, len(near), Stop()), near, "finish", report)


def distinct(starts: list[_Start], objective: Objective) -> list[_Start]:
    """Climbs in falling order of their values, with those to one mode joined and counted.

    Two climbs lead to one mode where their values agree and they either end close together or a
    ridge joins their ends, which the value halfway between them shows.
    """
    ordered = sorted(starts, key=lambda s: -s.climb.value)
    pairs = [
        (i, j)
        for i in range(len(ordered))
        for j in range(i)
        if abs(ordered[i].climb.value - ordered[j].climb.value) < _SAME_VALUE
        and _gap(ordered[i].climb, ordered[j].climb) >= _SAME_POINT
    ]
    joined = set()
    if pairs:
        middle = np.stack([0.5 * (ordered[i].climb.point + ordered[j].climb.point) for i, j in pairs])
        try:
            between = objective.values(middle)
        except (ValueError, NotConvergedError):
            between = np.full(len(pairs), np.nan)
        for (i, j), value in zip(pairs, between, strict=True):
            if value >= ordered[i].climb.value - _SAME_VALUE:
                joined.add((i, j))
    kept: list[int] = []
    counts: dict[int, int] = {}
    own: dict[int, bool] = {}
    for i, start in enumerate(ordered):
        for j in kept:
            close = abs(start.climb.value - ordered[j].climb.value) < _SAME_VALUE
            if close and ((i, j) in joined or _gap(start.climb, ordered[j].climb) < _SAME_POINT):
                counts[j] += start.count
                own[j] |= start.kept
                break
        else:
            kept.append(i)
            counts[i], own[i] = start.count, start.kept
    return [_Start(ordered[k].climb, counts[k], own[k]) for k in kept]


def _gap(a: Climb, b: Climb) -> float:
    return float(np.abs(a.point - b.point)[a.box.learn].max(initial=0.0))

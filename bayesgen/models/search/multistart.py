"""Search from many starts: climb from the best candidates, on few points first, and finish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

import numpy as np

from bayesgen._internal.progress import Progress
from bayesgen.errors import NotConvergedError
from bayesgen.models.search.ascent import Box, Climb, Stop

# Two ends of climbs are one mode where their values and parameters differ by less than this.
_SAME_VALUE = 0.02
# Two climbs are joined where the model of the better one loses less than this at the other, in
# nats; they are compared after every few steps.
_CLOSE, _MERGED = 0.05, 4
# Number of climbs that are compared on more points for each that continues there.
_COMPARED = 3
# Ends within this distance of the best, in nats, are finished too: they may lie below its mode.
_NEAR = 0.5
# A climb is given up after this number of evaluations where the best lies further above it than
# this number of steps with the gain of its last ones.
_PATIENT, _STEPS = 8, 10.0
# Step of a coordinate in the differences of gradients.
_STEP = 1e-5

Report = Callable[[str], None]


class Objective(Protocol):
    """A log marginal likelihood of one task as a function of z (P,), at many z together.

    Attributes:
        size: number of observations.
    """

    size: int

    def __call__(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values (S,) and gradients (S, P) at z (S, P); NaN where the value does not exist.

        Raises:
            ValueError, NotConvergedError: the value exists at none of the points.
        """

    def values(self, z: np.ndarray) -> np.ndarray:
        """Values (S,) at z (S, P), NaN where there is none."""

    def curvatures(self, z: np.ndarray) -> np.ndarray | None:
        """Fisher information (S, P, P) at z (S, P), or None where it is not known."""


@dataclass(frozen=True)
class LocalMaximum:
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
        fresh: number of candidates that start on these points, besides the ends of the
            climbs on fewer points, which may all be one mode there.
        added: further starts on these points, where they were screened.
    """

    objective: Objective
    climbs: int
    stop: Stop
    fresh: int = 0
    added: Sequence[np.ndarray] = ()


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
) -> list[LocalMaximum]:
    """Climb from the best candidates, stage by stage on more points, and finish the best.

    Args:
        candidates: starts in falling order of their promise.
        kept: starts that are climbed whatever their promise, at every stage with several climbs.
        rungs: the stages, from few points to all. Stages on the same points continue their climbs.
        box: which parameters are learnt, and where.
        report: called with a text after each step of the climbs.

    Returns:
        The modes found on all points, the best first. The gradient at the best is below 10⁻³ nats
        where rounding allows it.

    Raises:
        ValueError, NotConvergedError: the value exists at no start.
    """
    starts: list[_Start] = []
    for level, rung in enumerate(rungs):
        text = f"stage {level + 1} of {len(rungs)}"
        if level == 0:
            chosen = [(z, False) for z in candidates[: rung.climbs]] + [(z, True) for z in kept]
            starts = _begun(rung.objective, chosen, box)
        else:
            moved = rung.objective is not rungs[level - 1].objective
            starts = _best(starts, rung.climbs * (_COMPARED if moved else 1))
            if moved:
                starts = _continued(rung.objective, rungs[level - 1].objective, starts, box)
                starts = _best(starts, rung.climbs)
                every = max(1, len(candidates) // max(1, rung.fresh))
                fresh = [(z, False) for z in [*candidates[::every][: rung.fresh], *rung.added]]
                starts += _begun(rung.objective, fresh, box) if fresh else []
        _climb_all(rung, starts, text, report)
        starts = distinct(starts, rung.objective)
    last = rungs[-1]
    starts = distinct(_finished(last, starts, report), last.objective)
    return [
        LocalMaximum(s.climb.point, s.climb.value, s.count, s.climb.steepest)
        for k, s in enumerate(starts)
        if k == 0 or s.climb.ended
    ]


def reporter(progress: Progress | None, b: int, B: int, expected: int) -> Report | None:
    """A function that reports the steps of one task's search as a part of those of all tasks.

    Args:
        progress: called as progress(done, expected, what), or None.
        b: number of the task.
        B: number of tasks.
        expected: number of steps of one task that is expected at first.
    """
    if progress is None:
        return None
    done = 0

    def report(text: str) -> None:
        nonlocal done
        done += 1
        most = max(expected, done + 10)
        progress(b * most + done, B * most, f"task {b + 1} of {B}: {text}")

    return report


def _best(starts: list[_Start], count: int) -> list[_Start]:
    """The best climbs, with the kept one where there is room for more than one."""
    ordered = sorted(starts, key=lambda s: -s.climb.value)
    return ordered[:count] + [s for s in ordered[count:] if s.kept and count > 1]


def _begun(objective: Objective, chosen: list[tuple[np.ndarray, bool]], box: Box) -> list[_Start]:
    """Climbs from the points at which the value exists."""
    z = box.clip(np.stack([point for point, _ in chosen]))
    values, gradients, good = _evaluated(objective, z)
    curvatures = objective.curvatures(z[good])
    starts = []
    for number, k in enumerate(good):
        curvature = None if curvatures is None else curvatures[number]
        climb = Climb(z[k], float(values[k]), gradients[k], box, curvature)
        starts.append(_Start(climb, 1, chosen[k][1]))
    return starts


def _continued(
    objective: Objective, before: Objective, starts: list[_Start], box: Box
) -> list[_Start]:
    """The same climbs on more points, whose curvature is larger in proportion."""
    values, gradients, good = _evaluated(objective, np.stack([s.climb.point for s in starts]))
    result = []
    for k in good:
        old = starts[k].climb
        curvature = old.curvature() * (objective.size / before.size)
        climb = Climb(old.point, float(values[k]), gradients[k], box, curvature)
        result.append(_Start(climb, starts[k].count, starts[k].kept))
    return result


def _evaluated(objective: Objective, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values and gradients at some points, and the indices of those where they exist.

    Raises:
        ValueError: they exist at none of the points.
    """
    values, gradients = objective(z)
    good = np.flatnonzero(np.isfinite(values) & np.isfinite(gradients).all(1))
    if not len(good):
        raise ValueError(
            "the log marginal likelihood or its gradient is not finite at any start; the kernel or "
            "the likelihood may have no derivative there"
        )
    return values, gradients, good


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
        top = max(s.climb.value for s in starts)
        live = [(climb, z) for climb, z in live if not _hopeless(climb, top)]
        step += 1
        if step % _MERGED == 0:
            starts[:] = _merged(starts)
            live = [(climb, z) for climb, z in live if any(s.climb is climb for s in starts)]
        if not live:
            return
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


def _merged(starts: list[_Start]) -> list[_Start]:
    """The climbs without those that are on the way to the summit of a better one.

    A climb is, where the model of the better one has nearly the same value at its point.
    """

    def same(other: _Start, start: _Start) -> bool:
        return start.climb.evaluations > 2 and _distance(other.climb, start.climb) < _CLOSE

    return _joined(starts, same)


def _joined(starts: list[_Start], same: Callable[[_Start, _Start], bool]) -> list[_Start]:
    """Climbs in falling order of their values, each with the starts that are the same as it.

    Args:
        starts: the climbs.
        same: whether a better climb and another one lead to the same summit.
    """
    kept: list[_Start] = []
    for start in sorted(starts, key=lambda s: -s.climb.value):
        for other in kept:
            if same(other, start):
                other.count += start.count
                other.kept |= start.kept
                break
        else:
            kept.append(start)
    return kept


def _distance(better: Climb, other: Climb) -> float:
    """Loss in nats at the point of another climb, by the curvature of the better one."""
    gap = (other.point - better.point)[better.box.learn]
    bend = np.abs(better.model) @ np.abs(gap)
    return 0.5 * float(np.abs(gap) @ bend)


def _hopeless(climb: Climb, top: float) -> bool:
    """Whether a climb would need very many steps like its last ones to reach the best."""
    return climb.evaluations > _PATIENT and top - climb.value > _STEPS * climb.pace


def _finished(rung: Rung, starts: list[_Start], report: Report | None) -> list[_Start]:
    """The climbs, after the best and one that may lie below its mode have reached their summits.

    Where only one start is climbed, values are dear, and its model is kept.
    """
    ordered = sorted(starts, key=lambda s: -s.climb.value)
    near = [s for s in ordered[:2] if s.climb.value > ordered[0].climb.value - _NEAR]
    rest = ordered[len(near) :]
    for start in near:
        start.climb.evaluations = 1
        if rung.climbs > 1 and start.climb.steepest > Stop().gradient:
            start.climb.refresh(_negative_hessian(rung.objective, start.climb))
    _climb_all(Rung(rung.objective, len(near), Stop()), near, "finish", report)
    return near + rest


def _negative_hessian(objective: Objective, climb: Climb) -> np.ndarray | None:
    """The negative Hessian (P, P) by differences of gradients, or None where it is not finite."""
    box, point = climb.box, climb.point
    learnt = np.flatnonzero(box.learn)
    # Towards the inside of the box, where the function exists.
    steps = np.where(point + _STEP <= box.high, _STEP, -_STEP)
    moved = np.stack([point + steps * (np.arange(len(point)) == k) for k in learnt])
    try:
        _, gradients = objective(moved)
    except (ValueError, NotConvergedError):
        return None
    result = np.zeros((len(point), len(point)))
    result[learnt] = (climb.gradient - gradients) / steps[learnt, None]
    return 0.5 * (result + result.T) if np.isfinite(result).all() else None


def distinct(starts: list[_Start], objective: Objective) -> list[_Start]:
    """Climbs in falling order of their values, with those to one mode joined and counted.

    Two climbs lead to one mode where their values agree and they either end close together or a
    ridge joins their ends, which the value halfway between them shows.
    """
    ordered = sorted(starts, key=lambda s: -s.climb.value)
    pairs = [(a.climb, b.climb) for a, b in combinations(ordered, 2) if _equal(a.climb, b.climb)]
    near = {(id(a), id(b)) for a, b in pairs if _distance(a, b) < _CLOSE}
    apart = [(a, b) for a, b in pairs if (id(a), id(b)) not in near]
    if apart:
        try:
            between = objective.values(np.stack([0.5 * (a.point + b.point) for a, b in apart]))
        except (ValueError, NotConvergedError):
            between = np.full(len(apart), np.nan)
        near |= {
            (id(a), id(b))
            for (a, b), value in zip(apart, between, strict=True)
            if value >= b.value - _SAME_VALUE
        }
    return _joined(ordered, lambda other, start: (id(other.climb), id(start.climb)) in near)


def _equal(a: Climb, b: Climb) -> bool:
    return abs(a.value - b.value) < _SAME_VALUE

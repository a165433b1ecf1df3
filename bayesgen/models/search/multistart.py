"""Search from many starts: screen settings, climb from the best of them, and finish the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bayesgen.errors import NotConvergedError
from bayesgen.models.search.ascent import Stop, Summit, ascend
from bayesgen.models.search.space import Space

# Number of settings that are screened for each start that is climbed on all points.
SCREENED = 32
# Number of climbs on the fewest points for each start that is climbed on all points.
_ROUGH = 2
# Two ends of climbs are one mode where their values and parameters differ by less than this.
_SAME_VALUE, _SAME_POINT = 0.02, 0.1


class Objective(Protocol):
    """A log marginal likelihood of one task as a function of z."""

    def __call__(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient."""

    def value(self, z: np.ndarray) -> float:
        """Value alone."""

    def curvature(self, z: np.ndarray) -> np.ndarray | None:
        """The Fisher information, or None where there is none in closed form."""


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


def search(
    candidates: Sequence[np.ndarray],
    kept: Sequence[np.ndarray],
    rungs: Sequence[Rung],
    space: Space,
    report: Callable[[str], None] | None = None,
) -> list[Mode]:
    """Climb from the best candidates, stage by stage on more points, and finish the best.

    Args:
        candidates: starts in falling order of their promise.
        kept: starts that are climbed on all points whatever their promise.
        rungs: the stages, from few points to all.
        space: which parameters are learnt, and their box.
        report: called with a text after each evaluation.

    Returns:
        The modes found on all points, the best first; the best has a gradient below 10⁻³ nats
        where rounding allows it.

    Raises:
        ValueError, NotConvergedError: the value exists at no start.
    """
    tally: list[tuple[np.ndarray, int]] = [(z, 1) for z in candidates]
    last = len(rungs) - 1
    failure: Exception | None = None
    found: list[tuple[Summit, int]] = []
    for level, rung in enumerate(rungs):
        own = [(z, 1) for z in kept] if level == last else []
        starts = tally[: rung.climbs] + own
        found = []
        for number, (z, count) in enumerate(starts):
            text = f"start {number + 1} of {len(starts)}, stage {level + 1} of {len(rungs)}"
            try:
                found.append((_climb(rung, z, space, text, report), count))
            except (ValueError, NotConvergedError) as err:
                failure = err
        found = distinct(found, rung.objective, space)
        tally = [(s.point, count) for s, count in found]
    if not found:
        assert failure is not None
        raise failure
    return _finished(found, rungs[-1], space, report)


def _climb(
    rung: Rung,
    z: np.ndarray,
    space: Space,
    text: str,
    report: Callable[[str], None] | None,
) -> Summit:
    at = rung.objective

    def curvature(point: np.ndarray) -> np.ndarray:
        result = at.curvature(point)
        return np.full((len(point), len(point)), np.nan) if result is None else result

    told = None if report is None else (lambda k: report(f"{text}, evaluation {k}"))
    return ascend(
        at, z, space.learn, space.low, space.high, stop=rung.stop, curvature=curvature, report=told
    )


def _finished(
    found: list[tuple[Summit, int]],
    rung: Rung,
    space: Space,
    report: Callable[[str], None] | None,
) -> list[Mode]:
    """Climb the best end further, and any that then lies above it."""
    final = Rung(rung.objective, 1, Stop())
    for _ in range(3):
        best, count = found[0]
        if best.steepest <= final.stop.gradient:
            break
        top = _climb(final, best.point, space, "finish", report)
        found = distinct([(top, count), *found[1:]], rung.objective, space)
        if found[0][0] is top:
            break
    return [Mode(s.point, s.value, count, s.steepest) for s, count in found]


def distinct(
    found: list[tuple[Summit, int]], objective: Objective, space: Space
) -> list[tuple[Summit, int]]:
    """Ends of climbs in falling order, with those that are one mode joined and counted.

    Two ends are one mode where their values agree and they either lie close together or are joined
    by a ridge, which the value halfway between them shows.
    """
    ordered = sorted(found, key=lambda item: -item[0].value)
    kept: list[tuple[Summit, int]] = []
    for summit, count in ordered:
        for k, (other, number) in enumerate(kept):
            if _same(summit, other, objective, space):
                kept[k] = (other, number + count)
                break
        else:
            kept.append((summit, count))
    return kept


def _same(a: Summit, b: Summit, objective: Objective, space: Space) -> bool:
    if abs(a.value - b.value) >= _SAME_VALUE:
        return False
    if np.abs(a.point - b.point)[space.learn].max(initial=0.0) < _SAME_POINT:
        return True
    try:
        between = objective.value(0.5 * (a.point + b.point))
    except (ValueError, NotConvergedError):
        return False
    return between >= min(a.value, b.value) - _SAME_VALUE

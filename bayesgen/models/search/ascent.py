"""Climb to a local maximum on an exact gradient, by a trust region with a quasi-Newton model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bayesgen.errors import NotConvergedError

# Largest first change of a coordinate, and largest of any step.
_FIRST, _LARGEST = 1.0, 4.0
# Ridge of the model's curvature, relative to its largest entry.
_RIDGE = 1e-10


@dataclass(frozen=True)
class Summit:
    """The end of a climb.

    Attributes:
        point: parameters, (p,).
        value: value there.
        gradient: gradient there, (p,).
        steepest: largest entry of the gradient among the learnt parameters that are free to move.
        evaluations: number of values with gradient that were computed.
    """

    point: np.ndarray
    value: float
    gradient: np.ndarray
    steepest: float
    evaluations: int


@dataclass(frozen=True)
class Stop:
    """When a climb ends.

    Attributes:
        gradient: largest entry of the gradient, in nats.
        gain: gain that the model predicts for the next step, in nats; 0 does not stop.
        evaluations: largest number of values with gradient.
    """

    gradient: float = 1e-4
    gain: float = 0.0
    evaluations: int = 500


def ascend(
    evaluate: Callable[[np.ndarray], tuple[float, np.ndarray]],
    start: np.ndarray,
    learn: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    *,
    stop: Stop,
    curvature: Callable[[np.ndarray], np.ndarray] | None = None,
    report: Callable[[int], None] | None = None,
) -> Summit:
    """Find the local maximum near a start within a box.

    The model of the function is quadratic. Its curvature starts from the Fisher information, if it
    is given, and follows the changes of the gradient by damped BFGS updates. Each step maximises
    the model within the box and within a bound on each coordinate's change (a trust region).

    Args:
        evaluate: function from all parameters, (p,), to the value and its gradient, (p,). It raises
            ValueError or NotConvergedError where the value does not exist.
        start: parameters to start from, (p,); it is moved into the box.
        learn: which parameters are learnt, booleans (p,); the others are kept.
        low, high: ends of the box, (p,).
        stop: when the climb ends.
        curvature: function from all parameters to an approximation of the negative Hessian, (p, p).
        report: called with the number of evaluations after each of them.

    Raises:
        ValueError, NotConvergedError: the value does not exist at the start.

    Source: Nocedal & Wright (2006), algorithms 4.1 and 18.2 (damped BFGS).
    """
    climb = _Climb(evaluate, start, learn, low, high, curvature, report)
    while climb.evaluations < stop.evaluations:
        if climb.steepest() < stop.gradient:
            break
        step, gain = climb.proposal()
        if gain < stop.gain:
            break
        if climb.stuck(gain):
            if not climb.refresh():
                break
            continue
        climb.move(step, gain)
    return Summit(
        climb.point, climb.value, climb.gradient, climb.steepest(), climb.evaluations
    )


class _Climb:
    def __init__(
        self,
        evaluate: Callable[[np.ndarray], tuple[float, np.ndarray]],
        start: np.ndarray,
        learn: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        curvature: Callable[[np.ndarray], np.ndarray] | None,
        report: Callable[[int], None] | None,
    ) -> None:
        self.evaluate, self.report = evaluate, report
        self.curvature_at = curvature
        self.learn = np.flatnonzero(learn)
        self.low, self.high = low[self.learn], high[self.learn]
        self.point = start.copy()
        self.point[self.learn] = np.clip(start[self.learn], self.low, self.high)
        self.evaluations = 0
        self.value, self.gradient = self._evaluate(self.point)
        self.radius = _FIRST
        self.model = self._initial()
        self._value_then = -np.inf

    def _evaluate(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        self.evaluations += 1
        value, gradient = self.evaluate(point)
        if self.report is not None:
            self.report(self.evaluations)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            raise ValueError("the log marginal likelihood or its gradient is not finite")
        return value, gradient

    def _initial(self) -> np.ndarray:
        """The curvature of the model at the current point, positive definite."""
        count = len(self.learn)
        if self.curvature_at is not None:
            full = self.curvature_at(self.point)[np.ix_(self.learn, self.learn)]
            if np.isfinite(full).all():
                top = max(float(full.diagonal().max(initial=0.0)), 1e-6)
                return full + np.eye(count) * (_RIDGE * top)
        steep = np.abs(self.gradient[self.learn]).max(initial=0.0)
        return np.eye(count) * max(steep, 1e-6)

    def own(self) -> np.ndarray:
        """Learnt parameters at the current point."""
        return self.point[self.learn]

    def steepest(self) -> float:
        """Largest entry of the gradient among the parameters that are free to move."""
        return self._steepest_of(self.point, self.gradient)

    def _steepest_of(self, point: np.ndarray, gradient: np.ndarray) -> float:
        g, x = gradient[self.learn], point[self.learn]
        held = ((x <= self.low) & (g < 0)) | ((x >= self.high) & (g > 0))
        return float(np.abs(np.where(held, 0.0, g)).max(initial=0.0))

    def proposal(self) -> tuple[np.ndarray, float]:
        """The step that maximises the model within box and trust region, and its predicted gain."""
        g, x = self.gradient[self.learn], self.own()
        low = np.maximum(self.low - x, -self.radius)
        high = np.minimum(self.high - x, self.radius)
        step = _box_step(self.model, g, low, high)
        gain = float(g @ step - 0.5 * step @ self.model @ step)
        simple = _cauchy_step(self.model, g, low, high)
        other = float(g @ simple - 0.5 * simple @ self.model @ simple)
        return (step, gain) if gain >= other else (simple, other)

    def stuck(self, gain: float) -> bool:
        """Whether no step can gain more than rounding."""
        return self.radius < 1e-9 or gain <= 1e-15 * (1 + abs(self.value))

    def refresh(self) -> bool:
        """Start the model again at the current point; False where the last start gained nothing."""
        if self.value - self._value_then <= 1e-10 * (1 + abs(self.value)):
            return False
        self.model, self.radius = self._initial(), 0.1 * _FIRST
        self._value_then = self.value
        return True

    def move(self, step: np.ndarray, gain: float) -> None:
        """Try a step, take it if it gains, and update model and trust region."""
        new = self.point.copy()
        new[self.learn] = np.clip(self.own() + step, self.low, self.high)
        length = float(np.abs(step).max())
        try:
            value, gradient = self._evaluate(new)
        except (ValueError, NotConvergedError):
            self.radius = 0.25 * length
            return
        ratio = (value - self.value) / gain
        self._update(new[self.learn] - self.own(), self.gradient - gradient)
        if ratio < 0.25:
            self.radius = 0.25 * length
        elif ratio > 0.75 and length > 0.8 * self.radius:
            self.radius = min(2.5 * self.radius, _LARGEST)
        # Where values are equal up to rounding, the smaller gradient tells which is nearer the top.
        equal = abs(value - self.value) <= 1e-12 * (1 + abs(self.value))
        nearer = self._steepest_of(new, gradient) < self.steepest()
        if (equal and nearer) or (not equal and value > self.value):
            self.point, self.value, self.gradient = new, value, gradient

    def _update(self, step: np.ndarray, change: np.ndarray) -> None:
        """Damped BFGS update, Nocedal & Wright (2006), procedure 18.2."""
        change = change[self.learn]
        pushed = self.model @ step
        own = float(step @ pushed)
        if own <= 0 or not np.isfinite(change).all():
            return
        along = float(step @ change)
        theta = 1.0 if along >= 0.2 * own else 0.8 * own / (own - along)
        mixed = theta * change + (1 - theta) * pushed
        self.model = (
            self.model
            - np.outer(pushed, pushed) / own
            + np.outer(mixed, mixed) / float(step @ mixed)
        )


def _box_step(model: np.ndarray, g: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Approximate maximiser of gᵀs − ½ sᵀBs in a box: coordinates that leave it are fixed in turn."""
    step, free = np.zeros_like(g), np.ones(len(g), dtype=bool)
    for _ in range(len(g)):
        if not free.any():
            break
        held = ~free
        right = g[free] - model[np.ix_(free, held)] @ step[held]
        try:
            part = np.linalg.solve(model[np.ix_(free, free)], right)
        except np.linalg.LinAlgError:
            part = right / model.diagonal()[free]
        step[free] = part
        out = free & ((step < low) | (step > high))
        step = np.clip(step, low, high)
        if not out.any():
            break
        free &= ~out
    return step


def _cauchy_step(model: np.ndarray, g: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The best step along the scaled gradient within a box."""
    along = g / np.maximum(model.diagonal(), 1e-12)
    along = np.where(((along < 0) & (low >= 0)) | ((along > 0) & (high <= 0)), 0.0, along)
    if not along.any():
        return along
    bend = float(along @ model @ along)
    best = float(g @ along) / bend if bend > 0 else np.inf
    room = np.where(along > 0, high, low)[along != 0] / along[along != 0]
    return along * min(best, float(room.min()))

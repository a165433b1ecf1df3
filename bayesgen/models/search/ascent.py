"""Climb to a local maximum on an exact gradient, by a trust region with a quasi-Newton model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Largest first change of a coordinate, and largest of any step.
_FIRST, _LARGEST = 1.0, 4.0
# Ridge of the model's curvature, relative to its largest entry.
_RIDGE = 1e-10


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


@dataclass(frozen=True)
class Box:
    """The parameters that are learnt, and the box in which they are searched.

    Attributes:
        learn: which of all parameters are learnt, booleans (P,).
        low, high: ends of the box, (P,).
    """

    learn: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def clip(self, z: np.ndarray) -> np.ndarray:
        """Points (..., P) moved into the box; entries that are not learnt are kept."""
        return np.where(self.learn, np.clip(z, self.low, self.high), z)

    def steepest(self, z: np.ndarray, gradient: np.ndarray) -> float:
        """Largest entry of the gradient among the learnt parameters that are free to move."""
        held = ((z <= self.low) & (gradient < 0)) | ((z >= self.high) & (gradient > 0))
        return float(np.abs(np.where(held | ~self.learn, 0.0, gradient)).max(initial=0.0))

    def at_bound(self, z: np.ndarray) -> np.ndarray:
        """Which learnt entries lie on the edge of the box, booleans (P,)."""
        return self.learn & ((z <= self.low) | (z >= self.high))


class Climb:
    """A climb to the local maximum near a start, in steps that a caller evaluates.

    The model of the function is quadratic. Its curvature starts from the Fisher information, if it
    is given, and follows the changes of the gradient by damped BFGS updates. Each step maximises
    the model within the box and within a bound on each coordinate's change (a trust region).

    The caller asks for a point with `proposal`, and answers with `tell`, until the proposal is None.

    Args:
        start: parameters to start from, (P,), in the box.
        value: value there.
        gradient: gradient there, (P,).
        box: which parameters are learnt, and where.
        curvature: an approximation of the negative Hessian at the start, (P, P), or None.

    Attributes:
        point: parameters of the largest value so far, (P,).
        value: the largest value so far.
        gradient: gradient there, (P,).
        evaluations: number of values with gradient that were told, with that of the start.

    Source: Nocedal & Wright (2006), algorithms 4.1 and 18.2 (damped BFGS).

    Example:
        >>> box = Box(np.array([True]), np.array([-5.0]), np.array([5.0]))
        >>> climb = Climb(np.array([2.0]), -4.0, np.array([-4.0]), box)
        >>> while (z := climb.proposal(Stop())) is not None:
        ...     climb.tell(-float(z @ z), -2 * z)
        >>> abs(float(climb.point[0])) < 1e-4
        True
    """

    def __init__(
        self,
        start: np.ndarray,
        value: float,
        gradient: np.ndarray,
        box: Box,
        curvature: np.ndarray | None = None,
    ) -> None:
        self.box, self.point, self.value, self.gradient = box, start, value, gradient
        self.evaluations = 1
        self.learn = np.flatnonzero(box.learn)
        self.low, self.high = box.low[self.learn], box.high[self.learn]
        self.radius = _FIRST
        self.wants_curvature = False
        self.model = self._initial(curvature)
        self._value_then = -np.inf
        self._step, self._gain = np.zeros(0), 0.0

    def _initial(self, curvature: np.ndarray | None) -> np.ndarray:
        """The curvature of the model at the current point, positive definite."""
        count = len(self.learn)
        if curvature is not None:
            own = curvature[np.ix_(self.learn, self.learn)]
            if np.isfinite(own).all():
                top = max(float(own.diagonal().max(initial=0.0)), 1e-6)
                return own + np.eye(count) * (_RIDGE * top)
        steep = np.abs(self.gradient[self.learn]).max(initial=0.0)
        return np.eye(count) * max(steep, 1e-6)

    @property
    def steepest(self) -> float:
        """Largest entry of the gradient among the learnt parameters that are free to move."""
        return self.box.steepest(self.point, self.gradient)

    def refresh(self, curvature: np.ndarray | None) -> None:
        """Start the model again at the current point."""
        self.model, self.radius = self._initial(curvature), 0.1 * _FIRST
        self.wants_curvature = False

    def proposal(self, stop: Stop) -> np.ndarray | None:
        """The next point to evaluate, (P,), or None where the climb has ended.

        Where no step gains more than rounding, `wants_curvature` is set once, and the caller may
        `refresh` the model and ask again.
        """
        if self.evaluations >= stop.evaluations or self.steepest < stop.gradient:
            return None
        step, gain = self._best_step()
        if gain < stop.gain:
            return None
        if self.radius < 1e-9 or gain <= 1e-15 * (1 + abs(self.value)):
            gained = self.value - self._value_then > 1e-10 * (1 + abs(self.value))
            self._value_then, self.wants_curvature = self.value, bool(gained)
            return None
        new = self.point.copy()
        new[self.learn] = np.clip(self.point[self.learn] + step, self.low, self.high)
        self._step, self._gain = new[self.learn] - self.point[self.learn], gain
        return new

    def tell(self, value: float, gradient: np.ndarray) -> None:
        """Take the value and gradient at the last proposal; a value that is not finite failed."""
        self.evaluations += 1
        step, length = self._step, float(np.abs(self._step).max(initial=0.0))
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            self.radius = 0.25 * length
            return
        ratio = (value - self.value) / self._gain
        self._update(step, (self.gradient - gradient)[self.learn])
        if ratio < 0.25:
            self.radius = 0.25 * length
        elif ratio > 0.75 and length > 0.8 * self.radius:
            self.radius = min(2.5 * self.radius, _LARGEST)
        new = self.point.copy()
        new[self.learn] += step
        # Where values are equal up to rounding, the smaller gradient tells which is nearer the top.
        equal = abs(value - self.value) <= 1e-12 * (1 + abs(self.value))
        nearer = self.box.steepest(new, gradient) < self.steepest
        if (equal and nearer) or (not equal and value > self.value):
            self.point, self.value, self.gradient = new, value, gradient

    def _best_step(self) -> tuple[np.ndarray, float]:
        """The step that maximises the model within box and trust region, and its predicted gain."""
        g, x = self.gradient[self.learn], self.point[self.learn]
        low = np.maximum(self.low - x, -self.radius)
        high = np.minimum(self.high - x, self.radius)
        step = _box_step(self.model, g, low, high)
        gain = float(g @ step - 0.5 * step @ self.model @ step)
        simple = _cauchy_step(self.model, g, low, high)
        other = float(g @ simple - 0.5 * simple @ self.model @ simple)
        return (step, gain) if gain >= other else (simple, other)

    def _update(self, step: np.ndarray, change: np.ndarray) -> None:
        """Damped BFGS update, Nocedal & Wright (2006), procedure 18.2."""
        pushed = self.model @ step
        own = float(step @ pushed)
        if own <= 0:
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

"""Climb to a local maximum on an exact gradient, by a trust region with a quasi-Newton model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# Length of the first trust region, and the largest.
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
        """Which learnt entries lie on the edge of the box, booleans (P,).

        Steps of a climb come close to an edge without reaching it, and rounding of a constraint
        moves a value away from it, so that a millionth of the box's width counts as the edge.
        """
        width = np.where(np.isfinite(self.high - self.low), self.high - self.low, 0.0)
        return self.learn & ((z <= self.low + 1e-6 * width) | (z >= self.high - 1e-6 * width))


class Climb:
    """A climb to the local maximum near a start, in steps that a caller evaluates.

    The model of the function is quadratic. Its curvature starts from the Fisher information, if it
    is given, and follows the changes of the gradient by symmetric rank-one updates. Each step
    maximises the model within the box and within a distance (a trust region).

    The caller asks for a point with `proposal` and answers with `tell`, until there is none.

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
        pace: gain of the last steps, averaged, in nats.
        ended: whether the last proposal ended at a maximum.

    Source: Nocedal & Wright (2006), algorithms 4.1 and 6.2.

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
        self.pace, self.ended = np.inf, False

    def _initial(self, curvature: np.ndarray | None) -> np.ndarray:
        """The curvature of the model at the current point."""
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

    def curvature(self) -> np.ndarray:
        """The model's curvature, (P, P), with its eigenvalues made positive."""
        values, vectors = np.linalg.eigh(self.model)
        result = np.zeros((len(self.point), len(self.point)))
        result[np.ix_(self.learn, self.learn)] = (vectors * np.abs(values)) @ vectors.T
        return result

    def refresh(self, curvature: np.ndarray | None) -> None:
        """Start the model again at the current point."""
        self.model, self.radius = self._initial(curvature), max(self.radius, 0.3 * _FIRST)
        self.wants_curvature = False

    def proposal(self, stop: Stop) -> np.ndarray | None:
        """The next point to evaluate, (P,), or None where the climb has ended.

        Where no step gains more than rounding, `wants_curvature` is set once, and the caller may
        `refresh` the model and ask again.
        """
        self.ended = False
        if self.evaluations >= stop.evaluations:
            return None
        step, gain = self._best_step()
        if self.steepest < stop.gradient or gain < stop.gain:
            self.ended = True
            return None
        if self.radius < 1e-9 or gain <= 1e-15 * (1 + abs(self.value)):
            gained = self.value - self._value_then > 1e-10 * (1 + abs(self.value))
            self._value_then, self.wants_curvature = self.value, bool(gained)
            self.ended = not gained
            return None
        new = self.point.copy()
        new[self.learn] = np.clip(self.point[self.learn] + step, self.low, self.high)
        self._step, self._gain = new[self.learn] - self.point[self.learn], gain
        return new

    def tell(self, value: float, gradient: np.ndarray) -> None:
        """Take the value and gradient at the last proposal; a value that is not finite failed."""
        self.evaluations += 1
        step, length = self._step, float(np.linalg.norm(self._step))
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            self.radius = 0.25 * length
            return
        ratio = (value - self.value) / self._gain
        self._update(step, (self.gradient - gradient)[self.learn])
        if ratio < 0.25:
            self.radius = 0.25 * length
        elif ratio > 0.75 and length > 0.8 * self.radius:
            self.radius = min(2.5 * self.radius, _LARGEST)
        gained = max(value - self.value, 0.0)
        self.pace = gained if np.isinf(self.pace) else 0.7 * self.pace + 0.3 * gained
        new = self.point.copy()
        new[self.learn] += step
        # Where values are equal up to rounding, the smaller gradient tells which is nearer the top.
        equal = abs(value - self.value) <= 1e-12 * (1 + abs(self.value))
        nearer = self.box.steepest(new, gradient) < self.steepest
        if (equal and nearer) or (not equal and value > self.value):
            self.point, self.value, self.gradient = new, value, gradient

    def _best_step(self) -> tuple[np.ndarray, float]:
        """The step that maximises the model within box and trust region, and its predicted gain.

        Coordinates that would leave the box are set to its edge, one after the other, and the step
        of the others is computed again.
        """
        g, x = self.gradient[self.learn], self.point[self.learn]
        low, high = self.low - x, self.high - x
        step, free = np.zeros_like(g), ~(((high <= 0) & (g > 0)) | ((low >= 0) & (g < 0)))
        for _ in range(len(g)):
            held = np.flatnonzero(~free)
            move = np.flatnonzero(free)
            if not len(move):
                break
            right = g[move] - self.model[np.ix_(move, held)] @ step[held]
            step[move] = _trust_step(self.model[np.ix_(move, move)], right, self.radius)
            out = free & ((step < low) | (step > high))
            step = np.clip(step, low, high)
            if not out.any():
                break
            free &= ~out
        return step, float(g @ step - 0.5 * step @ self.model @ step)

    def _update(self, step: np.ndarray, change: np.ndarray) -> None:
        """Symmetric rank-one update, Nocedal & Wright (2006), eq. 6.24 and 6.26."""
        rest = change - self.model @ step
        along = float(rest @ step)
        if abs(along) > 1e-8 * float(np.linalg.norm(rest) * np.linalg.norm(step)):
            self.model = self.model + np.outer(rest, rest) / along


def _trust_step(model: np.ndarray, g: np.ndarray, radius: float) -> np.ndarray:
    """The maximiser of gᵀs − ½ sᵀBs over ‖s‖ ≤ radius, for any symmetric B.

    Source: Nocedal & Wright (2006), section 4.3.
    """
    values, vectors = np.linalg.eigh(model)
    along = vectors.T @ g
    tiny = 1e-12 * max(float(np.abs(values).max()), 1e-12)
    if values[0] > tiny:
        step = along / values
        if np.linalg.norm(step) <= radius:
            return vectors @ step
    # The shift μ with ‖(B + μI)⁻¹g‖ = radius lies above −λ_min; bisection in log μ finds it.
    low = max(0.0, -float(values[0])) + tiny
    high = low + float(np.linalg.norm(g)) / radius
    for _ in range(60):
        middle = math.sqrt(low * high)
        if np.linalg.norm(along / (values + middle)) > radius:
            low = middle
        else:
            high = middle
        if high < low * (1 + 1e-6):
            break
    step = along / (values + high)
    length = float(np.linalg.norm(step))
    if values[0] < 0 and length < 0.9 * radius:  # the gradient is normal to the bend: move along it
        rest = math.sqrt(max(radius**2 - length**2, 0.0))
        step[0] += math.copysign(rest, step[0] if step[0] else 1.0)
    return vectors @ step

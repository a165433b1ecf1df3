"""Grids of hyperparameters stated before the data, and the cost of choosing a point of one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

Values = Sequence[float] | Mapping[float, float] | str
Grid = Mapping[str, Values] | str

# Hyperparameters whose least value is 0; the others must be positive.
_MAY_BE_ZERO = frozenset({"order"})


class Point(NamedTuple):
    """The point of a grid nearest to a learnt value, with its cost.

    Attributes:
        value: value of the hyperparameter at the point.
        nats: −ln of its prior probability.
        words: description of the choice for the certificate.
    """

    value: float
    nats: float
    words: str


def nearest(name: str, values: Values, now: float) -> Point:
    """The grid point nearest to a learnt value, by the logarithm of the ratio.

    Args:
        name: name of the hyperparameter.
        values: a sequence of values of equal probability, a mapping value → probability, or
            "geometric".
        now: the learnt value.

    Raises:
        ValueError: there are no values, or one only; a value is not positive; the probabilities are
            invalid.
    """
    if isinstance(values, str):
        if values != "geometric":
            raise ValueError(f'grid[{name!r}] must hold numbers or be "geometric", got {values!r}')
        return _geometric(name, now)
    points = _numbers(name, values)
    least = 0.0 if name in _MAY_BE_ZERO else torch.finfo(torch.float64).tiny
    if not len(points) or not (torch.isfinite(points) & (points >= least)).all():
        raise ValueError(f"grid[{name!r}] must hold positive numbers, got {values!r}")
    if len(points) == 1:
        raise ValueError(
            f"grid[{name!r}] must hold at least two values, or the choice would cost nothing, got "
            f"{values!r}; for a single value stated beforehand, fit with the {name} fixed at it"
        )
    chances = torch.full_like(points, 1 / max(1, len(points)))
    if isinstance(values, Mapping):
        chances = _numbers(name, list(values.values()))
        if not (chances > 0).all() or float(chances.sum()) > 1 + 1e-9:
            raise ValueError(
                f"grid[{name!r}] must give positive probabilities that sum to at most 1, got "
                f"{values!r}"
            )
    index = int(((points + 1e-300).log() - math.log(now + 1e-300)).abs().argmin())
    words = f"one of {len(points)} values of the {name}"
    return Point(float(points[index]), -math.log(float(chances[index])), words)


def _numbers(name: str, values: Any) -> torch.Tensor:
    """The numbers of a grid as a vector."""
    try:
        held = [float(value) for value in values]
    except (TypeError, ValueError):
        raise ValueError(
            f'grid[{name!r}] must hold numbers or be "geometric", got {values!r}'
        ) from None
    return torch.tensor(held, dtype=torch.float64)


def _geometric(name: str, now: float) -> Point:
    """Nearest power of √2, P(k) = 1/((π²/3 − 1)(1 + |k|)²), or order j, P(j) = 6/(π²(1 + j)²)."""
    if name == "order":
        j = round(now)
        return Point(j, 2 * math.log1p(j) - math.log(6 / math.pi**2), f"the {name} among all")
    k = round(2 * math.log2(now))
    constant = 1 / (math.pi**2 / 3 - 1)
    return Point(
        2 ** (k / 2),
        2 * math.log1p(abs(k)) - math.log(constant),
        f"the {name} among all powers of √2",
    )

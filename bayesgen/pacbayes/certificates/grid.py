"""Grids of hyperparameters stated beforehand, and what the choice of a point costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

Values = Sequence[float] | Mapping[float, float] | str
Grid = Mapping[str, Values] | str


class Point(NamedTuple):
    """The point of a grid that is nearest to what was learnt.

    Attributes:
        value: there.
        nats: −ln of its prior probability.
        words: for the story.
    """

    value: float
    nats: float
    words: str


def nearest(name: str, values: Values, now: float) -> Point:
    """The nearest point in ratio.

    Args:
        name: of the hyperparameter.
        values: uniform ones, value → probability, or "geometric".
        now: what was learnt.

    Raises:
        ValueError: no values, one below 0, or probabilities that are none.
    """
    if isinstance(values, str):
        if values != "geometric":
            raise ValueError(f'grid[{name!r}] must hold numbers or be "geometric", got {values!r}')
        return _geometric(name, now)
    points = torch.as_tensor(list(values), dtype=torch.float64).reshape(-1)
    if not len(points) or not (torch.isfinite(points) & (points >= 0)).all():
        raise ValueError(f"grid[{name!r}] must hold positive numbers, got {values!r}")
    chances = torch.full_like(points, 1 / max(1, len(points)))
    if isinstance(values, Mapping):
        chances = torch.as_tensor(list(values.values()), dtype=torch.float64)
        if not (chances > 0).all() or float(chances.sum()) > 1 + 1e-9:
            raise ValueError(
                f"grid[{name!r}] must give positive probabilities that sum to at most 1, got "
                f"{values!r}"
            )
    index = int(((points + 1e-300).log() - math.log(now + 1e-300)).abs().argmin())
    words = f"one of {len(points)} values of the {name}"
    return Point(float(points[index]), -math.log(float(chances[index])), words)


def _geometric(name: str, now: float) -> Point:
    """All powers of √2, P(k) = 1/((π²/3 − 1)(1 + |k|)²); orders j ≥ 0, P(j) = 6/(π²(1 + j)²)."""
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

"""Checks at the door of the bounds: risks, divergences, counts, confidence."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bayesgen._internal import checks

Range = tuple[float, float]


def risk(value: Any, loss_range: Range = (0.0, 1.0), name: str = "risk") -> Tensor:
    """A risk in [a, b], float64, any shape."""
    a, b = interval(loss_range)
    tensor = torch.as_tensor(value, dtype=torch.float64)
    if not ((tensor >= a) & (tensor <= b)).all():
        raise ValueError(f"{name} must lie in [{a:g}, {b:g}], got {tensor}")
    return tensor


def nats(name: str, value: Any) -> Tensor:
    """A divergence or budget: finite, at least 0."""
    tensor = torch.as_tensor(value, dtype=torch.float64)
    if not (torch.isfinite(tensor) & (tensor >= 0)).all():
        raise ValueError(f"{name} must be finite and at least 0, got {tensor}")
    return tensor


def log_delta(delta: Any) -> float:
    """ln δ, δ in (0, 1)."""
    if not 0 < checks.share("delta", delta) < 1:
        raise ValueError(f"delta must lie in (0, 1), got {delta}")
    return math.log(delta)


def interval(loss_range: Range) -> Range:
    """(a, b), finite, a < b."""
    a, b = loss_range
    if not (math.isfinite(a) and math.isfinite(b) and a < b):
        raise ValueError(f"loss_range must be (a, b) with a < b, both finite, got {loss_range}")
    return a, b

"""Checks of the arguments of bounds: risks, divergences and confidence levels."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bayesgen._internal import checks

Range = tuple[float, float]


def real(name: str, value: Any) -> Tensor:
    """Check for numbers and return them in float64, as a tensor that keeps its autograd graph."""
    return checks.reals(name, value).to(torch.float64)


def together(**named: Tensor) -> None:
    """Check that the shapes of arguments broadcast."""
    try:
        torch.broadcast_shapes(*(tensor.shape for tensor in named.values()))
    except RuntimeError:
        shapes = " and ".join(str(tuple(tensor.shape)) for tensor in named.values())
        raise ValueError(
            f"{' and '.join(named)} must have shapes that broadcast, got {shapes}"
        ) from None


def risk(value: Any, loss_range: Range = (0.0, 1.0), name: str = "risk") -> Tensor:
    """Check for a risk in [a, b], of any shape, and return it in float64."""
    a, b = interval(loss_range)
    tensor = real(name, value)
    if not ((tensor >= a) & (tensor <= b)).all():
        raise ValueError(f"{name} must lie in [{a:g}, {b:g}], got {tensor}")
    return tensor


def nats(name: str, value: Any) -> Tensor:
    """Check for a divergence or budget that is finite and at least 0."""
    tensor = real(name, value)
    if not (torch.isfinite(tensor) & (tensor >= 0)).all():
        raise ValueError(f"{name} must be finite and at least 0, got {tensor}")
    return tensor


def log_delta(delta: Any) -> float:
    """Check for δ in (0, 1) and return ln δ."""
    if not 0 < checks.share("delta", delta) < 1:
        raise ValueError(f"delta must lie in (0, 1), got {delta}")
    return math.log(delta)


def interval(loss_range: Any, name: str = "loss_range") -> Range:
    """Check for a finite range (a, b) with a < b."""
    try:
        a, b = (float(end) for end in loss_range)
    except (TypeError, ValueError):
        a = b = math.nan
    if not (math.isfinite(a) and math.isfinite(b) and a < b):
        raise ValueError(f"{name} must be (a, b) with a < b, both finite, got {loss_range!r}")
    return a, b

"""Bounds on the risk of a randomised predictor, each a small function of tensors."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bayesgen import _checks


def maurer(risk: Any, kl: Any, n: int, delta: float = 0.05) -> Tensor:
    """The PAC-Bayes-kl bound: with probability 1 − δ over the data, for all Q at once,

        kl(risk ‖ true risk) ≤ (KL(Q ‖ P) + ln(2√n/δ))/n,

    solved for the largest true risk that satisfies it. For a loss in [0, 1], independent data and
    a prior P chosen before them.

    Args:
        risk: empirical Gibbs risk, in [0, 1], any shape.
        kl: KL(Q ‖ P) ≥ 0 in nats, broadcastable with it.
        n: number of observations, at least 1.
        delta: δ in (0, 1).

    Returns:
        The bound, in [risk, 1].

    Raises:
        ValueError: an argument out of range.

    Source: Maurer (2004), theorem 5; Seeger (2002).

    Example:
        >>> round(float(maurer(0.1, 20.0, n=1000)), 4)
        0.1839
    """
    risk = torch.as_tensor(risk, dtype=torch.float64)
    kl = torch.as_tensor(kl, dtype=torch.float64)
    if not ((risk >= 0) & (risk <= 1)).all():
        raise ValueError(f"risk must lie in [0, 1], got {risk}")
    if not (torch.isfinite(kl) & (kl >= 0)).all():
        raise ValueError(f"kl must be finite and at least 0, got {kl}")
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"n must be an integer of at least 1, got {n!r}")
    if not 0 < _checks.share("delta", delta) < 1:
        raise ValueError(f"delta must lie in (0, 1), got {delta}")
    budget = (kl + math.log(2 * math.sqrt(n) / delta)) / n
    low, high = torch.broadcast_tensors(risk, torch.ones_like(budget))
    for _ in range(80):  # kl is increasing in its second argument from the risk on
        middle = 0.5 * (low + high)
        inside = _binary_kl(risk, middle) <= budget
        low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
    return high


def _binary_kl(p: Tensor, q: Tensor) -> Tensor:
    return torch.xlogy(p, p / q) + torch.xlogy(1 - p, (1 - p) / (1 - q))

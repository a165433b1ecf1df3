"""The binary kl divergence and its inverses: what a bound on it says of a risk."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen.pacbayes import validation

# Newton steps; from where they start fewer than ten reach the last digit.
_STEPS = 25


def binary_kl(p: Tensor, q: Tensor) -> Tensor:
    """kl(p ‖ q) = p ln(p/q) + (1 − p) ln((1 − p)/(1 − q)), in nats, of two coins."""
    return torch.xlogy(p, p / q) + torch.xlogy(1 - p, (1 - p) / (1 - q))


def upper_risk(risk: Any, budget: Any) -> Tensor:
    """The largest q with kl(risk ‖ q) ≤ budget.

    kl is convex and increasing in q from the risk on: Newton's steps from above go down to the
    root and never past it. The start is the least of three bounds in closed form: Pinsker's, the
    quadratic one, and the one that drops risk·ln(1/q) ≥ 0. Differentiable in both arguments.

    Args:
        risk: in [0, 1], any shape.
        budget: nats, at least 0, broadcastable with it.

    Returns:
        q in [risk, 1].

    Raises:
        ValueError: an argument out of range.

    Source: Seeger (2002); Langford (2005), section 3, for the inverse.

    Example:
        >>> round(float(upper_risk(0.0, 0.1)), 4)  # 1 − e^−0.1
        0.0952
    """
    p, B = torch.broadcast_tensors(validation.risk(risk), validation.nats("budget", budget))
    q = _newton_from_above(p.detach(), B.detach())
    if not (p.requires_grad or B.requires_grad):
        return q
    # One more step at the root, where it changes nothing but carries the implicit derivatives.
    inside = (q > p.detach()) & (q < 1)
    at = torch.where(inside, q, torch.full_like(q, 0.5))
    safe = torch.where(inside, p, torch.full_like(p, 0.25)).clamp(min=1e-15)  # ln 0 has no slope
    step = (binary_kl(safe, at) - B) * at * (1 - at) / (at - safe.detach())
    return q - torch.where(inside, step - step.detach(), torch.zeros_like(q))


def lower_risk(risk: Any, budget: Any) -> Tensor:
    """The smallest q with kl(risk ‖ q) ≤ budget: one minus the upper one of 1 − risk.

    Example:
        >>> round(float(lower_risk(1.0, 0.1)), 4)  # e^−0.1
        0.9048
    """
    return 1 - upper_risk(1 - validation.risk(risk), budget)


def monte_carlo(risk: Any, draws: int, delta: float) -> Tensor:
    """Upper end of an expected loss from independent draws: kl⁻¹(risk, ln(1/δ)/draws).

    Chernoff's bound: the mean of independent losses in [0, 1], not necessarily alike, is below
    what is returned with probability at least 1 − δ over the draws.

    Args:
        risk: mean loss over the draws, in [0, 1].
        draws: how many, at least 1.
        delta: δ in (0, 1).

    Source: Langford & Caruana (2001), section 3; Dziugaite & Roy (2017), eq. 11.

    Example:
        >>> round(float(monte_carlo(0.1, 10_000, 0.01)), 4)
        0.1093
    """
    return upper_risk(risk, -validation.log_delta(delta) / checks.whole("draws", draws))


def _newton_from_above(p: Tensor, B: Tensor) -> Tensor:
    rest = torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)  # −entropy
    far = -torch.expm1((rest - B) / (1 - p).clamp(min=1e-300))
    half = B / 2
    quadratic = ((p + half).sqrt() + half.sqrt()).square()
    q = torch.minimum(torch.minimum(p + half.sqrt(), quadratic), far).clamp(max=1.0)
    q = torch.maximum(q, p)
    for _ in range(_STEPS):
        inside = (q > p) & (q < 1)
        at = torch.where(inside, q, torch.full_like(q, 0.5))
        safe = torch.where(inside, p, torch.full_like(p, 0.25))
        excess = (binary_kl(safe, at) - B).clamp(min=0)
        step = excess * at * (1 - at) / (at - safe)
        q = torch.where(inside, torch.maximum(q - step, p), q)
    return q

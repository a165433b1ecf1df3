"""The binary kl divergence and its inverses, which turn bounds on it into bounds on a risk."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen.pacbayes import validation

# Number of Newton steps; fewer than ten reach full precision from the starting point used here.
_STEPS = 25


def binary_kl(p: Tensor, q: Tensor) -> Tensor:
    """Divergence kl(p ‖ q) = p ln(p/q) + (1 − p) ln((1 − p)/(1 − q)) of Bernoulli laws, in nats."""
    return torch.xlogy(p, p / q) + torch.xlogy(1 - p, (1 - p) / (1 - q))


def upper_risk(risk: Any, budget: Any) -> Tensor:
    """Inverse of the binary kl: the largest q with kl(risk ‖ q) ≤ budget.

    kl is convex and increasing in q above the risk, so Newton's iteration from above decreases to
    the root. It starts from the least of three bounds in closed form: Pinsker's, the quadratic one,
    and the one that drops risk·ln(1/q) ≥ 0. Differentiable in both arguments.

    Args:
        risk: values in [0, 1], any shape.
        budget: values ≥ 0 in nats, broadcastable with the risk.

    Returns:
        q in [risk, 1].

    Raises:
        ValueError: an argument is out of range.

    Source: Seeger (2002); Langford (2005), section 3, for the inverse.

    Example:
        >>> round(float(upper_risk(0.0, 0.1)), 4)  # 1 − e^−0.1
        0.0952
    """
    p, B = torch.broadcast_tensors(validation.risk(risk), validation.nats("budget", budget))
    q = _newton_from_above(p.detach(), B.detach())
    if not (p.requires_grad or B.requires_grad):
        return q
    # One more Newton step at the root: it leaves the value and adds the implicit derivatives.
    inside = (q > p.detach()) & (q < 1)
    at = torch.where(inside, q, torch.full_like(q, 0.5))
    # The clamp avoids ln 0, which has no derivative.
    safe = torch.where(inside, p, torch.full_like(p, 0.25)).clamp(min=1e-15)
    step = (binary_kl(safe, at) - B) * at * (1 - at) / (at - safe.detach())
    return q - torch.where(inside, step - step.detach(), torch.zeros_like(q))


def lower_risk(risk: Any, budget: Any) -> Tensor:
    """The smallest q with kl(risk ‖ q) ≤ budget, equal to 1 − upper_risk(1 − risk, budget).

    Example:
        >>> round(float(lower_risk(1.0, 0.1)), 4)  # e^−0.1
        0.9048
    """
    return 1 - upper_risk(1 - validation.risk(risk), budget)


def monte_carlo(risk: Any, draws: int, delta: float) -> Tensor:
    """Upper bound of an expected loss from independent draws: kl⁻¹(risk, ln(1/δ)/draws).

    By Chernoff's bound, the expected mean of independent losses in [0, 1], which need not have the
    same distribution, is at most the returned value with probability at least 1 − δ over the draws.

    Args:
        risk: mean loss over the draws, in [0, 1].
        draws: number of draws, at least 1.
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

"""The binary kl divergence and its inverses, which turn bounds on it into bounds on a risk.

The inverses are rounded outwards: at the returned value the divergence is at least the budget in
exact arithmetic. This needs the divergence to few rounding units, also where its two terms almost
cancel. With d = q − p, u = d/p and v = −d/(1 − p), and because p·u + (1 − p)·v = 0,

    kl(p ‖ q) = p·g(u) + (1 − p)·g(v),  g(t) = t − log(1 + t) ≥ 0,

where nothing cancels. For small t, g(t) = 2s²/(1 − s) − 2s³(1/3 + s²/5 + s⁴/7 + …), s = t/(2 + t).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen.pacbayes import validation

Array = np.ndarray

# Largest number of Newton steps; fewer than ten reach full precision from the starting point used.
_STEPS = 60
# Smallest budget at which the plain formula of the divergence serves for the first steps.
_PLAIN = 1e-4
# Change of a Newton step, relative to |q − p|, after which the next one is below rounding.
_CLOSE = 1e-8
# Relative and absolute bound of the rounding error of `_divergence`. The relative one is twice the
# sum of the errors of its operations, with logarithms accurate to two units in the last place.
_ERROR, _TINY = 64 * 2.0**-52, 64 * 5e-324
# Arguments up to which g is computed from its series, and the coefficients of the series.
_SMALL = 0.25
_SERIES = tuple(1 / (2 * k + 3) for k in range(11))


def binary_kl(p: Tensor, q: Tensor) -> Tensor:
    """Divergence kl(p ‖ q) = p ln(p/q) + (1 − p) ln((1 − p)/(1 − q)) of Bernoulli laws, in nats."""
    return torch.xlogy(p, p / q) + torch.xlogy(1 - p, (1 - p) / (1 - q))


def upper_risk(risk: Any, budget: Any) -> Tensor:
    """Inverse of the binary kl: the largest q with kl(risk ‖ q) ≤ budget, rounded upwards.

    kl is convex and increasing in q above the risk, so Newton's iteration from above decreases to
    the root. It starts from the least of three bounds in closed form: Pinsker's, the quadratic one,
    and the one that drops risk·ln(1/q) ≥ 0. The result is never below the root, whatever the
    rounding, and above it by few rounding units of the divergence. Differentiable in both
    arguments.

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
    return _inverse(risk, budget, up=True)


def lower_risk(risk: Any, budget: Any) -> Tensor:
    """The smallest q with kl(risk ‖ q) ≤ budget, rounded downwards; see `upper_risk`.

    Example:
        >>> round(float(lower_risk(1.0, 0.1)), 4)  # e^−0.1
        0.9048
    """
    return _inverse(risk, budget, up=False)


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
    spent = -validation.log_delta(delta) / checks.whole("draws", draws)
    return upper_risk(risk, outwards(torch.tensor(spent, dtype=torch.float64)))


def outwards(value: Tensor, size: Tensor | float | None = None) -> Tensor:
    """A value raised by more than the rounding error of a short formula, 32 units of its size.

    Args:
        value: the computed value.
        size: sum of the magnitudes of the terms it was added up from; None for the value's own.
    """
    room = value.detach().abs() if size is None else torch.as_tensor(size).detach()
    return value + 32 * 2.0**-52 * room


def _inverse(risk: Any, budget: Any, *, up: bool) -> Tensor:
    p, B = validation.risk(risk), validation.nats("budget", budget)
    validation.together(risk=p, budget=B)
    p, B = torch.broadcast_tensors(p, B)
    with np.errstate(all="ignore"):
        arrays = [t.detach().cpu().numpy() for t in (p, B)]
        q = torch.as_tensor((_above if up else _below)(*arrays)).to(p.device)
    if not (p.requires_grad or B.requires_grad):
        return q
    # One more Newton step at the root: it leaves the value and adds the implicit derivatives.
    inside = ((q > p.detach()) & (q < 1)) if up else ((q < p.detach()) & (q > 0))
    at = torch.where(inside, q, torch.full_like(q, 0.5))
    # The clamp avoids ln 0, which has no derivative.
    other = torch.full_like(p, 0.25 if up else 0.75)
    safe = torch.where(inside, p, other).clamp(min=1e-15, max=1 - 1e-15)
    step = (binary_kl(safe, at) - B) * at * (1 - at) / (at - safe.detach())
    return q - torch.where(inside, step - step.detach(), torch.zeros_like(q))


def _above(p: Array, B: Array) -> Array:
    """The inverse above the risk, rounded upwards."""
    far = -np.expm1((_rest(p) - B) / np.maximum(1 - p, 1e-300))
    half = B / 2
    quadratic = np.square(np.sqrt(p + half) + np.sqrt(half))
    q = np.minimum(np.minimum(np.minimum(p + np.sqrt(half), quadratic), far), 1.0)
    q = _newton(p, B, np.maximum(q, p))
    return _outside(p, B, np.where(p == 0, -np.expm1(-B), q), 1.0)


def _below(p: Array, B: Array) -> Array:
    """The inverse below the risk, rounded downwards."""
    far = np.exp((_rest(p) - B) / np.maximum(p, 5e-324))
    q = np.maximum(np.maximum(p - np.sqrt(B / 2), far), 0.0)
    q = _newton(p, B, np.minimum(q, p))
    return _outside(p, B, np.where(p == 1, np.exp(-B), q), 0.0)


def _rest(p: Array) -> Array:
    """The negative entropy p ln p + (1 − p) ln(1 − p)."""
    left = np.where(p > 0, p * np.log(p), 0.0)
    return left + np.where(p < 1, (1 - p) * np.log1p(-p), 0.0)


def _newton(p: Array, B: Array, q: Array) -> Array:
    """Newton's iteration for kl(p ‖ q) = B from beyond the root, on whose side it stays."""
    if (B > _PLAIN).all():
        q = _iterate(p, B, q, _plain, 1e-5)
    return _iterate(p, B, q, _divergence, _CLOSE)


def _iterate(
    p: Array, B: Array, q: Array, divergence: Callable[[Array, Array], Array], close: float
) -> Array:
    for _ in range(_STEPS):
        inside = (q != p) & (q > 0) & (q < 1) & (p > 0) & (p < 1)
        at, safe = np.where(inside, q, 0.5), np.where(inside, p, 0.25)
        excess = divergence(safe, at) - B
        moved = at - excess * (at / (at - safe)) * (1 - at)
        # Rounding may lead to the other side of p, or out of [0, 1].
        moved = np.where(q > p, np.maximum(moved, p), np.minimum(moved, p))
        moved = np.where(inside, np.minimum(np.maximum(moved, 0.0), 1.0), q)
        room = np.maximum(close * np.abs(q - p), 2.0**-52 * q)
        done = bool((np.abs(moved - q) <= room).all())
        q = moved
        if done:
            break
    return q


def _outside(p: Array, B: Array, q: Array, end: float) -> Array:
    """The first of q and values further out at which kl(p ‖ q) ≥ B is certain; 0 or 1 always is."""
    step = np.nextafter(q, end) - q
    limit = np.minimum if end else np.maximum
    while True:
        known = (q == end) | ((B == 0) & (q == p))
        known |= _divergence(p, q) * (1 - _ERROR) - _TINY >= B
        if known.all():
            return q
        q = np.where(known, q, limit(q + step, end))
        step = 2 * step


def _plain(p: Array, q: Array) -> Array:
    """kl(p ‖ q) for p inside (0, 1), by its two terms, which may cancel."""
    return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))


def _divergence(p: Array, q: Array) -> Array:
    """kl(p ‖ q) ≥ 0 with a relative error below `_ERROR`; infinite where it is."""
    d = q - p
    found: Array = _part(np.stack([p, 1 - p]), np.stack([d, -d]), np.stack([q, 1 - q])).sum(0)
    return found


def _part(p: Array, d: Array, q: Array) -> Array:
    """p·g(d/p) = d − p·log(q/p), with q = p + d; d where p is 0, without its cancelling part."""
    t = d / np.maximum(p, 5e-324)
    small = np.abs(t) <= _SMALL
    s = np.where(small, t / (2 + t), 0.0)
    square = s * s
    series = np.full_like(s, _SERIES[-1])
    for coefficient in _SERIES[-2::-1]:
        series = series * square + coefficient
    near = p * (2 * square / (1 - s) - 2 * s * square * series)
    ratio = np.where(t < -0.5, np.log(q / p), np.log1p(t))
    ratio = np.where(np.isinf(t), np.log(q) - np.log(p), ratio)
    far = np.where(p == 0, d, d - p * ratio)
    return np.where(small & (p > 0), near, far)

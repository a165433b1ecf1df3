"""Expected losses of a function with Gaussian marginals, in closed form or by quadrature.

Each function takes the marginals of f at some points, mean (..., C) and variance (..., C) or
(..., 1), with the observations there, and returns the expected loss of each row. The mean over the
rows is a Gibbs risk.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from bayesgen._internal import checks

# Nodes of the trapezoid rule on ±7 standard deviations. The error is below 1e-8 for up to 1,000
# classes, as the tests check; 32 nodes suffice for ten classes. Gauss–Hermite quadrature would need
# hundreds, because with many classes the integrand is close to a step.
NODES = 64
_REACH = 7.0


def zero_one(mean: Tensor, variance: Tensor, labels: Tensor, nodes: int = NODES) -> Tensor:
    """Probability P(argmax_j f_j ≠ y) for independent outputs that share one variance per point.

        P(argmax = y) = ∫ N(z; 0, 1) Π_{j≠y} Φ(z + (m_y − m_j)/√v) dz

    by the trapezoid rule, which is spectrally accurate here. For two classes the closed form is
    Φ((m_y − m_j)/√2v). With one output, the classes are its signs: label 0 is negative, 1 is
    positive. Differentiable.

    Args:
        mean: (..., n, C), or (..., n, 1) for the sign of one output.
        variance: (..., n, 1), at least 0; where it is 0, the argmax is certain.
        labels: integers, (..., n).
        nodes: number of quadrature nodes.

    Returns:
        The probabilities, (..., n), in [0, 1].

    Raises:
        ValueError: the shapes do not match; a label is not one of the classes; a variance is
            negative or not shared by the outputs.

    Source: Girolami & Rogers (2006), eq. 3, for the probit integral.

    Example:
        >>> m = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
        >>> zero_one(m, torch.ones(1, 1, dtype=torch.float64), torch.tensor([0])).round(decimals=4)
        tensor([0.3663], dtype=torch.float64)
    """
    C = mean.shape[-1]
    labels = checks.class_labels("labels", labels, max(C, 2))
    if labels.shape != mean.shape[:-1]:
        raise ValueError(
            f"labels must have shape {tuple(mean.shape[:-1])}, that of mean without its last "
            f"axis, got {tuple(labels.shape)}"
        )
    if variance.shape[-1] != 1:
        raise ValueError(
            "variance must be shared by the outputs, shape (..., n, 1), got "
            f"{tuple(variance.shape)}"
        )
    if (variance.detach() < 0).any():
        raise ValueError(f"variance must be at least 0, got {float(variance.min())}")
    sd = variance.clamp(min=torch.finfo(mean.dtype).tiny).sqrt()
    if C == 1:
        sign = 2 * labels[..., None] - 1
        return torch.special.ndtr(-(sign * mean) / sd)[..., 0]
    index = labels[..., None]
    # Beyond 40 standard deviations the loss does not change; clipping avoids infinite values.
    lead = ((mean.gather(-1, index) - mean) / sd).clamp(-40.0, 40.0)
    if C == 2:
        rival = lead.gather(-1, 1 - index)[..., 0]
        return torch.special.ndtr(-rival / math.sqrt(2.0))
    others = torch.ones_like(mean, dtype=torch.bool).scatter(-1, index, False)
    lead = lead[others].reshape(*lead.shape[:-1], C - 1)
    wrong = torch.zeros_like(lead[..., 0])
    for node, weight in _normal_rule(nodes):
        # 1 − ΠΦ through logarithms stays accurate for small errors.
        wrong = wrong - weight * torch.expm1(torch.special.log_ndtr(lead + node).sum(-1))
    return wrong.clamp(0.0, 1.0)


def saturating(mean: Tensor, variance: Tensor, y: Tensor, tolerance: float) -> Tensor:
    """Expected saturating loss E[1 − exp(−(y − f)²/2τ²)] of each row, averaged over outputs.

        1 − τ/√(τ² + v) exp(−(y − m)²/2(τ² + v))

    Args:
        mean, variance, y: (n, C), variance also (n, 1).
        tolerance: τ > 0, in the units of the targets.
    """
    width = tolerance**2 + variance
    kept = tolerance / width.sqrt() * (-0.5 * (y - mean) ** 2 / width).exp()
    return 1 - kept.mean(-1)


def clipped_squared(mean: Tensor, variance: Tensor, y: Tensor, most: float) -> Tensor:
    """Expected clipped squared error E[min((y − f)², c)] of each row, averaged over outputs.

    With z normal of mean μ = m − y and variance v, a = (−√c − μ)/√v and b = (√c − μ)/√v:

        (μ² + v)(Φ(b) − Φ(a)) + [(a√v + 2μ) φ(a) − (b√v + 2μ) φ(b)] √v + c (1 − Φ(b) + Φ(a))

    Args:
        mean, variance, y: (n, C), variance also (n, 1).
        most: c > 0, the value at which the loss is clipped, in squared units of the targets.

    Source: the truncated normal's second moment, Johnson, Kotz & Balakrishnan (1994), 13.10.

    Example:
        >>> zero = torch.zeros(1, 1, dtype=torch.float64)
        >>> clipped_squared(zero, zero + 0.01, zero, 1.0).round(decimals=6)
        tensor([0.0100], dtype=torch.float64)
    """
    sd, mu, edge = variance.clamp(min=1e-300).sqrt(), mean - y, math.sqrt(most)
    a, b = ((sign * edge - mu) / sd for sign in (-1.0, 1.0))
    inside = torch.special.ndtr(b) - torch.special.ndtr(a)

    def tail(end: Tensor) -> Tensor:
        # φ is zero to rounding beyond 40, where the square of `end` could overflow.
        near = end.clamp(-40.0, 40.0)
        density = (-0.5 * near.square()).exp() / math.sqrt(2 * math.pi)
        return torch.where(end.abs() < 40, (near * sd + 2 * mu) * density, 0.0)

    square = (mu.square() + variance) * inside + sd * (tail(a) - tail(b))
    outside = torch.special.ndtr(a) + torch.special.ndtr(-b)
    return (square + most * outside).clamp(0.0, most).mean(-1)


def clipped_nll(
    mean: Tensor, variance: Tensor, y: Tensor, noise: Tensor, loss_range: tuple[float, float]
) -> Tensor:
    """Expected clipped loss E[clip(−log N(y; f, σ²), a, b)] of each row, in nats.

    It is averaged over outputs. −log N = ½ log 2πσ² + (y − f)²/2σ² is clipped from below only where
    a exceeds its least value.

    Args:
        mean, variance, y: (n, C), variance also (n, 1).
        noise: noise variance σ², ().
        loss_range: (a, b); b must exceed the least value ½ log 2πσ².

    Raises:
        ValueError: b does not exceed the least value of the loss.
    """
    low, high = loss_range
    least = 0.5 * math.log(2 * math.pi * float(noise))
    if high <= least:
        raise ValueError(
            f"the clipping range must end above the least value of the loss, ½ log 2πσ² = "
            f"{least:.4g} nats at σ² = {float(noise):.4g}, got {loss_range}"
        )
    scale = 2 * float(noise)
    value = least + clipped_squared(mean, variance, y, (high - least) * scale) / scale
    if low > least:  # max(x, a) = x + a − min(x, a)
        value = value + low - least
        value = value - clipped_squared(mean, variance, y, (low - least) * scale) / scale
    return value


@cache
def _normal_rule(count: int) -> list[tuple[float, float]]:
    """Nodes and weights for ∫ N(z; 0, 1) f(z) dz."""
    nodes = np.linspace(-_REACH, _REACH, count)
    weights = np.exp(-0.5 * nodes**2)
    return list(zip(nodes.tolist(), (weights / weights.sum()).tolist(), strict=True))

"""Deterministic bounds of the evidence, by a Nyström approximation and conjugate gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from linear_operator import LinearOperator, to_linear_operator
from torch import Tensor

from bayesgen._internal import checks
from bayesgen._internal.user_warning import warn

_MOST = 1000


@dataclass(frozen=True)
class Interval:
    """Lower and upper bound of log N(y; 0, sK + σ²I), summed over outputs.

    Attributes:
        lower, upper: the bounds, (B,), nats.
        solution: v ≈ (sK + σ²I)⁻¹y, (B, n, C).
        steps: number of conjugate gradient steps.
        rank: rank of the Nyström approximation Q.
        trace: t = tr(sK − Q), the trace of the approximation error.
    """

    lower: Tensor
    upper: Tensor
    solution: Tensor
    steps: int
    rank: int
    trace: float


def evidence_interval(
    K: Any, y: Any, scale: Any = 1.0, noise: Any = 1.0, *, rank: int = 500, tolerance: float = 1.0
) -> Interval:
    """Deterministic bounds of the evidence, from a partial Cholesky factor and any solve v.

    With Q = LLᵀ the pivoted partial Cholesky factor of sK (Q ⪯ sK), Q̂ = Q + σ²I, t = tr(sK − Q),
    any v and r = y − (sK + σ²I)v:

        log|Q̂| ≤ log|sK + σ²I| ≤ log|Q̂| + n log(1 + t/(nσ²))
        2yᵀv − vᵀ(sK + σ²I)v ≤ yᵀ(sK + σ²I)⁻¹y ≤ the same + rᵀQ̂⁻¹r

    v comes from conjugate gradients on all columns at once, preconditioned by Q̂. They stop when
    the gap of the second line, measured in the evidence, is below the tolerance. The gap of the
    first line shrinks only with the rank.

    Args:
        K: covariance matrix, (n, n): a tensor, or a linear operator with access to its rows (such
            as gpytorch's).
        y: targets (n,), (n, C) or (B, n, C).
        scale, noise: outputscale s and noise variance σ², positive numbers.
        rank: largest rank of the Nyström approximation.
        tolerance: gap of the quadratic forms at which the iteration stops, in nats, summed over all
            tasks.

    Raises:
        ValueError: the shapes do not match; scale or noise is not positive; rank is not a positive
            integer.

    Warns:
        RuntimeWarning: the step limit was reached; the bounds are still valid.

    Source: Artemev, Burt & van der Wilk (2021), lemmas 2 and 3.

    Example:
        >>> x = torch.linspace(0, 1, 100, dtype=torch.float64)[:, None]
        >>> K, y = torch.exp(-8 * (x - x.T) ** 2), torch.sin(6 * x[:, 0])
        >>> interval = evidence_interval(K, y, noise=0.1, tolerance=1e-3)
        >>> bool(0 <= interval.upper - interval.lower < 2e-3)
        True
    """
    op = K if isinstance(K, LinearOperator) else to_linear_operator(checks.real("K", K))
    if op.ndim != 2 or op.shape[0] != op.shape[1]:
        raise ValueError(f"K must have shape (n, n), got {tuple(op.shape)}")
    n, like = op.shape[0], torch.empty(0, dtype=op.dtype, device=op.device)
    y = checks.targets("y", y, n, like=like)
    s, noise_value = (
        checks.positive_number(name, v) for name, v in (("scale", scale), ("noise", noise))
    )
    checks.whole("rank", rank)
    tolerance = checks.amount("tolerance", tolerance)
    y = y.reshape(-1, n, 1 if y.ndim == 1 else y.shape[-1])
    B, _, C = y.shape
    columns = y.movedim(0, 1).reshape(n, B * C)
    with torch.no_grad():
        root = s**0.5 * op.pivoted_cholesky(rank=min(rank, n), error_tol=1e-12)
        trace = max(float(s * op.diagonal().sum() - root.square().sum()), 0.0)
        nystrom = _Nystrom(root, noise_value)

        def multiply(v: Tensor) -> Tensor:
            return s * (op @ v) + noise_value * v

        v, r, steps = _gradients(multiply, columns, nystrom.solve, tolerance)
        lower = (v * (columns + r)).sum(0)  # 2yᵀv − vᵀÂv = vᵀ(y + r)
        gap = (r * nystrom.solve(r)).sum(0)
    low, wide = (each.reshape(B, C).sum(1) for each in (lower, gap))
    logdet = nystrom.logdet(n)
    slack = n * math.log1p(trace / (n * noise_value))
    constant = n * C * math.log(2 * math.pi)
    return Interval(
        -0.5 * (low + wide + C * (logdet + slack) + constant),
        -0.5 * (low + C * logdet + constant),
        v.reshape(n, B, C).movedim(1, 0),
        steps,
        root.shape[1],
        trace,
    )


class _Nystrom:
    """Solves and log-determinant of Q̂ = LLᵀ + σ²I, from a Cholesky factor of LᵀL + σ²I."""

    def __init__(self, root: Tensor, noise: float) -> None:
        self.root, self.noise = root, noise
        inner = root.mT @ root
        inner.diagonal().add_(noise)
        self.lower = torch.linalg.cholesky(inner)

    def solve(self, v: Tensor) -> Tensor:
        """Solution Q̂⁻¹v, by Woodbury's identity."""
        inside = torch.cholesky_solve(self.root.mT @ v, self.lower)
        return (v - self.root @ inside) / self.noise

    def logdet(self, n: int) -> Tensor:
        """Log-determinant log|Q̂| for order n."""
        spare = (n - self.root.shape[1]) * math.log(self.noise)
        return 2 * self.lower.diagonal().log().sum() + spare


def _gradients(
    multiply: Callable[[Tensor], Tensor],
    y: Tensor,
    precondition: Callable[[Tensor], Tensor],
    tolerance: float,
) -> tuple[Tensor, Tensor, int]:
    """Conjugate gradients on each column of y: the solution v, its true residual, the steps."""
    v, r = torch.zeros_like(y), y.clone()
    z = precondition(r)
    p, size = z.clone(), (r * z).sum(0)
    for step in range(_MOST):
        if float(0.5 * size.sum()) <= tolerance:
            r = y - multiply(v)
            if float(0.5 * (r * precondition(r)).sum()) <= 1.01 * tolerance:
                return v, r, step
        Ap = multiply(p)
        curve = (p * Ap).sum(0)
        length = torch.where(curve > 0, size / curve.clamp(min=1e-300), 0)
        v, r = v + length * p, r - length * Ap
        z = precondition(r)
        new = (r * z).sum(0)
        p = z + torch.where(size > 0, new / size.clamp(min=1e-300), 0) * p
        size = new
    r = y - multiply(v)
    left = float(0.5 * (r * precondition(r)).sum())
    warn(
        f"conjugate gradients stopped at {_MOST} steps with {left:.3g} nats between the bounds of "
        f"the quadratic form, but at most {tolerance:.3g} are allowed"
    )
    return v, r, _MOST

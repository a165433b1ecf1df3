"""Cholesky evidence of many covariance matrices at once, in float64 or refined float32."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen.solvers.cholesky_factor import smallest

_PROBES = 16


@dataclass(frozen=True)
class Batched:
    """Log marginal likelihoods log N(y; 0, A) of a batch of problems, with their parts.

    Attributes:
        log_marginal_likelihood: (B,), float64, nats.
        alpha: A⁻¹y, (B, n, C), float64.
        logdet: log|A|, (B,), float64.
        error: error of the log marginal likelihood, (B,), nats.
    """

    log_marginal_likelihood: Tensor
    alpha: Tensor
    logdet: Tensor
    error: Tensor


def batched_evidence(
    A: Any, y: Any, *, dtype: torch.dtype = torch.float64, seed: int = 0
) -> Batched:
    """Log marginal likelihood of a batch of covariance matrices, each with its own targets.

    In float32, the Cholesky factorisation LLᵀ is that of A rounded to float32. Each solve is
    refined once with its residual in float64, and the quadratic form is corrected by the residual
    of the refined solve. The log-determinant keeps its float32 error. That error is, to first
    order, tr (LLᵀ)⁻¹E with E = A − LLᵀ; Hutchinson's estimator computes it with a few products in
    float64. The reported error is the absolute value of the estimate plus twice its standard error.

    Args:
        A: covariance matrices, (B, n, n), float64.
        y: targets, (B, n) or (B, n, C), float64.
        dtype: dtype of the factorisation, float64 or float32.
        seed: seed of the random probes.

    Raises:
        ValueError: the shapes or dtypes are wrong; a matrix is not positive definite in this dtype
            (the message gives its smallest eigenvalue and the rounding level of the dtype).

    Source: Higham (2002), section 12.1; Hutchinson (1990).

    Example:
        >>> A = torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
        >>> found = batched_evidence(A, torch.ones(2, 3, dtype=torch.float64), dtype=torch.float32)
        >>> found.log_marginal_likelihood
        tensor([-4.2568, -4.2568], dtype=torch.float64)
    """
    A = checks.real("A", A)
    if A.ndim != 3 or A.shape[1] != A.shape[2] or A.dtype != torch.float64:
        raise ValueError(f"A must have shape (B, n, n), float64, got {tuple(A.shape)}, {A.dtype}")
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype must be torch.float64 or torch.float32, got {dtype}")
    checks.seed(seed)
    B, n, _ = A.shape
    if A.numel() == 0:
        raise ValueError(f"A is empty: got shape {tuple(A.shape)}")
    y = checks.real("y", y, like=A)
    if y.ndim not in (2, 3) or y.shape[:2] != (B, n):
        raise ValueError(f"y must have shape ({B}, {n}) or ({B}, {n}, C), got {tuple(y.shape)}")
    y = y.reshape(B, n, -1)
    lower = A.to(dtype, copy=True)
    info = torch.empty(B, dtype=torch.int32, device=A.device)
    torch.linalg.cholesky_ex(lower, out=(lower, info))
    if (info > 0).any():
        which = int(info.nonzero()[0])
        raise ValueError(
            f"A must be positive definite in {str(dtype).removeprefix('torch.')}: matrix {which} "
            f"has {smallest(A[which])}; add a larger noise variance"
        )
    alpha = torch.cholesky_solve(y.to(dtype), lower).double()
    residual = y - A @ alpha
    if dtype != torch.float64:
        alpha = alpha + torch.cholesky_solve(residual.to(dtype), lower).double()
        residual = y - A @ alpha
    # yᵀA⁻¹y = αᵀ(y + r) + rᵀA⁻¹r. The last term, of second order in the residual, is dropped.
    quadratic = (alpha * (y + residual)).sum((1, 2))
    logdet = 2 * lower.double().diagonal(dim1=-2, dim2=-1).log().sum(-1)
    C, eps = y.shape[-1], torch.finfo(torch.float64).eps
    norm = A.abs().sum(-1).amax(-1)
    error = 0.5 * n**0.5 * eps * norm * alpha.square().sum((1, 2))
    if dtype == torch.float64:
        inverse = torch.cholesky_inverse(lower).diagonal(dim1=-2, dim2=-1).sum(-1)
        error = error + 0.5 * C * n**0.5 * eps * norm * inverse
    else:
        shift, spread = _shift(A, lower, seed)
        error = error + 0.5 * C * (shift.abs() + 2 * spread)
    value = -0.5 * (quadratic + C * (logdet + n * math.log(2 * math.pi)))
    return Batched(value, alpha, logdet, error)


def _shift(A: Tensor, lower: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Estimate of tr (LLᵀ)⁻¹(A − LLᵀ) for each matrix, and its standard error."""
    n = A.shape[1]
    generator = torch.Generator().manual_seed(seed)
    z = (2.0 * torch.randint(2, (n, _PROBES), generator=generator) - 1).to(A)
    wide = lower.double()
    off = A @ z - wide @ (wide.mT @ z)
    back = torch.cholesky_solve(off.to(lower.dtype), lower).double()
    each = (z * back).sum(1)
    return each.mean(1), each.std(1) / _PROBES**0.5

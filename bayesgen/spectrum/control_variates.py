"""Traces of an operator's powers that are known exactly, and what they do for a sampled density.

Random probes estimate Σ f(λᵢ). The sums of 1, λ and λ² need no estimate: the order of the operator,
its trace, its squared Frobenius norm. So a probe has to answer only for what is left of f once a
parabola has been fitted to it, which of a logarithm on the bulk of a kernel's spectrum is a few
per cent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Rows of a pass.
_ROWS = 512


def moments(op: Any) -> tuple[float, float, float] | None:
    """n, tr K and ‖K‖²_F of an operator that can tell them, else None.

    Args:
        op: a tensor (n, n), or an operator with a method `moments()` that returns the last two.

    Example:
        >>> moments(2 * torch.eye(4))
        (4.0, 8.0, 16.0)
    """
    if isinstance(op, Tensor):
        return (float(len(op)), *of_rows(op, 0))
    if hasattr(op, "moments"):
        return (float(op.shape[0]), *op.moments())
    return None


def of_rows(part: Tensor, first: int) -> tuple[float, float]:
    """The share of tr K and ‖K‖²_F in some rows of K, (r, n), rows added up in float64.

    Args:
        part: the rows.
        first: the number of the first.
    """
    trace = float(part[:, first:].diagonal().sum(dtype=torch.float64))
    if part.dtype == torch.float64 and part.is_contiguous():  # as fast as it can be read
        flat = (rows.reshape(-1) for rows in part.split(_ROWS))
        return trace, sum(float(torch.dot(row, row)) for row in flat)
    # In the rows' own dtype along each, which is several times as fast as to convert them.
    return trace, float(torch.linalg.vector_norm(part, dim=1).double().square().sum())


def calibrate(
    nodes: Tensor, weights: Tensor, exact: Tensor, doubt: Tensor
) -> tuple[Tensor, Tensor]:
    """Weights of each probe whose sums of 1, λ and λ² are the known ones.

    The density takes the parabola p = φᵀc that is closest to f, for any f; a probe's sum becomes
    Σ p, known, and its own sum of f − p. All of it is linear in f, so it is one change of the
    weights. With w̄ the mean of q probes, φ = (1, λ, λ²), and r the moments of a probe:

        wᵢ − w̄ᵢ φᵢᵀ [Σ w̄φφᵀ + ½q diag(δ²)]⁻¹ (r − exact)

    What is known is so but for δ: where sampling is surer than that, it is left alone. (The
    covariance of r is 2Σ w̄φφᵀ, so that this is the c of least variance.) Weights may become
    slightly negative.

    Args:
        nodes: (m,).
        weights: (q, m).
        exact: Σ 1, Σ λ and Σ λ² over the eigenvalues that the probes stand for, (3,) or (q, 3).
        doubt: δ of each, (3,).

    Returns:
        The weights, (q, m); and those of what δ does to Σ f, a row for each moment, (3, m).

    Source: control variates (Owen 2013, section 8.9), which here are calibration weights (Deville
    & Särndal 1992).
    """
    mean = weights.mean(0)
    seen = nodes.masked_fill(mean <= 0, 0).max()
    top = torch.where(seen > 0, seen, nodes.max()).clamp(min=torch.finfo(nodes.dtype).tiny)
    powers = torch.arange(3, device=nodes.device)
    phi = (nodes / top)[:, None] ** powers
    off, doubt = weights @ phi - exact / top**powers, doubt / top**powers
    normal = phi.mT @ (mean[:, None] * phi) + 0.5 * len(weights) * doubt.square().diag()
    # Two nodes or one leave less than a parabola to be told.
    closest = torch.linalg.pinv(normal, rtol=1e-13, hermitian=True) @ phi.mT
    return weights - mean * (off @ closest), doubt[:, None] * mean * closest

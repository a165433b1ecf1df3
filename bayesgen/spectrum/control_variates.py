"""Control variates that reduce the sampling error of a spectral density.

Random probes estimate Σ f(λᵢ). The sums of 1, λ and λ² are known exactly: the order of the
operator, its trace and its squared Frobenius norm. The probes therefore only estimate the
difference between f and a fitted parabola. For a logarithm on the bulk of a kernel's spectrum this
difference is a few per cent of f.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Rows processed at a time.
_ROWS = 512


def moments(op: Any) -> tuple[float, float, float] | None:
    """The moments n, tr K and ‖K‖²_F of an operator, or None where they are not available.

    Args:
        op: a tensor (n, n), or an operator whose method `moments()` returns tr K and ‖K‖²_F.

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
    """Contribution of some rows of K, (r, n), to tr K and ‖K‖²_F, summed over rows in float64.

    Args:
        part: the rows.
        first: index of the first row.
    """
    trace = float(part[:, first:].diagonal().sum(dtype=torch.float64))
    if part.dtype == torch.float64 and part.is_contiguous():  # runs at memory bandwidth
        flat = (rows.reshape(-1) for rows in part.split(_ROWS))
        return trace, sum(float(torch.dot(row, row)) for row in flat)
    # The sum along each row stays in the rows' dtype: several times faster than converting them.
    return trace, float(torch.linalg.vector_norm(part, dim=1).double().square().sum())


def calibrate(
    nodes: Tensor, weights: Tensor, exact: Tensor, doubt: Tensor
) -> tuple[Tensor, Tensor]:
    """Change each probe's weights so that its sums of 1, λ and λ² equal the known ones.

    For any f, let the parabola p = φᵀc be the least-squares fit of f under the density. A probe's
    estimate becomes the known sum Σ p plus its own sum of f − p. The estimate is linear in f, so it
    amounts to one change of the weights. With w̄ the mean weights of q probes, φ = (1, λ, λ²), and
    r the moments of a probe, the new weights are:

        wᵢ − w̄ᵢ φᵢᵀ [Σ w̄φφᵀ + ½q diag(δ²)]⁻¹ (r − exact)

    The known moments have uncertainty δ. A moment that sampling determines more accurately than δ
    is left almost unchanged. (The covariance of r is 2Σ w̄φφᵀ, so this c has the least variance.)
    Weights may become slightly negative.

    Args:
        nodes: nodes of the density, (m,).
        weights: weights of each probe, (q, m).
        exact: Σ 1, Σ λ and Σ λ² over the eigenvalues that the probes estimate, (3,) or (q, 3).
        doubt: uncertainty δ of each moment, (3,).

    Returns:
        The new weights, (q, m), and the weights that give the effect of δ on Σ f, one row for each
        moment, (3, m).

    Source: control variates (Owen 2013, section 8.9), which here are calibration weights (Deville
    & Särndal 1992).
    """
    mean = weights.mean(0)
    heavy = mean.clamp(min=0)
    total = heavy.sum().clamp(min=torch.finfo(nodes.dtype).tiny)
    # Powers of (λ − c)/h, with h the largest distance from c among the nodes with weight. Powers of
    # λ itself would be dependent to rounding where the nodes are nearly equal.
    c = heavy @ nodes / total
    off = nodes - c
    h = off.masked_fill(mean <= 0, 0).abs().max()
    h = torch.where(h > 0, h, torch.where(c > 0, c, 1.0))
    phi = (off / h)[:, None] ** torch.arange(3, device=nodes.device)
    change = _shifted(-c, h)
    wanted, unsure = exact @ change.mT, change * doubt
    normal = phi.mT @ (mean[:, None] * phi) + 0.5 * len(weights) * unsure @ unsure.mT
    # With fewer than three nodes the normal matrix is singular; the pseudo-inverse handles it.
    closest = torch.linalg.pinv(normal, rtol=1e-13, hermitian=True) @ phi.mT
    told = weights - mean * ((weights @ phi - wanted) @ closest)
    return told, mean * (unsure.mT @ closest)


def _shifted(c: Tensor, h: Tensor) -> Tensor:
    """Matrix (3, 3) from the sums of 1, λ and λ² to those of 1, (λ + c)/h and ((λ + c)/h)²."""
    one, zero = torch.ones_like(c), torch.zeros_like(c)
    rows = (one, zero, zero, c / h, 1 / h, zero, (c / h) ** 2, 2 * c / h**2, 1 / h**2)
    return torch.stack(rows).reshape(3, 3)

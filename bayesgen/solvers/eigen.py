"""Eigenvalues of symmetric matrices, and the size of their rounding errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

# Up to this order, torch's eigenvalues are as fast as SciPy's. SciPy's threads keep spinning after
# the call and delay torch's next one by milliseconds.
_FEW = 600
# Norm below which, or above whose inverse, squares may leave the range of the dtype.
_SMALLEST = 1e-15
# Power iterations that estimate a largest eigenvalue.
POWER_STEPS = 8


def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (n,), ascending, and eigenvectors (n, n) of a symmetric matrix (n, n).

    On a CPU this is SciPy's LAPACK divide-and-conquer routine, measured to be faster there than
    `torch.linalg.eigh`. On other devices, and for a batch (B, n, n), it is `torch.linalg.eigh`.
    Not differentiable.

    Example:
        >>> eigenvalues, vectors = eigh(torch.diag(torch.tensor([2.0, 1.0])))
        >>> eigenvalues
        tensor([1., 2.])
    """
    import scipy.linalg

    if matrix.device.type == "cpu" and matrix.ndim == 2:
        values, vectors = scipy.linalg.eigh(
            matrix.detach().numpy(), driver="evd", check_finite=False
        )
        return torch.from_numpy(values), torch.from_numpy(vectors)
    values, vectors = torch.linalg.eigh(matrix.detach())
    return values, vectors


def eigvalsh(matrix: Tensor) -> Tensor:
    """Eigenvalues of a symmetric matrix, (n,), ascending. Not differentiable.

    It takes at most half the time of `eigh`, because no eigenvectors are computed.

    Example:
        >>> eigvalsh(torch.diag(torch.tensor([2.0, 1.0])))
        tensor([1., 2.])
    """
    import scipy.linalg

    if matrix.device.type == "cpu" and len(matrix) > _FEW:
        given = matrix.detach().numpy()
        return torch.from_numpy(
            scipy.linalg.eigh(given, driver="evr", eigvals_only=True, check_finite=False)
        )
    return torch.linalg.eigvalsh(matrix.detach())


def rounding_norm(n: int, largest: float, dtype: torch.dtype) -> float:
    """Spectral norm ‖E‖₂ of the rounding error of a symmetric (n, n) matrix.

    The value is √n · eps · λ_max: the norm of a symmetric matrix of independent rounding errors of
    relative size eps grows as √n. The backward error of a factorisation has the same order. The
    tests compare it with float64.

    Args:
        n: order of the matrix.
        largest: its largest eigenvalue λ_max.
        dtype: dtype in which it is stored.
    """
    return math.sqrt(n) * torch.finfo(dtype).eps * largest


def logdet_factor(t: Tensor) -> Tensor:
    """Factor log(1 + t)(1 + t)/t, at least 1, of the effect of an error in A on log|A|.

    Let A ⪰ σ²I be known up to an error of spectral norm at most tσ². The first-order effect on
    log|A| is tσ² tr A⁻¹, with the A that was factorised. For an eigenvalue λ of it,
    log λ − log max(σ², λ − tσ²) is at most this factor times tσ²/λ. The factor tends to 1 for
    small t.

    Args:
        t: the norm in units of the smallest noise variance, of any shape.

    Example:
        >>> logdet_factor(torch.tensor([0.0, 1.0]))
        tensor([1.0000, 1.3863])
    """
    t = t.clamp(min=torch.finfo(t.dtype).tiny)
    return t.log1p() / t * (1 + t)


def largest_eigenvalue(multiply: Callable[[Tensor], Tensor], like: Tensor) -> float:
    """Largest eigenvalue of a PSD operator, estimated from below by eight power iterations.

    The iterations start from a constant vector plus a fixed normal draw. A constant vector alone
    may be an eigenvector of a small eigenvalue, as where the rows of the operator sum to zero.

    Args:
        multiply: function v (n, 1) → Av.
        like: tensor with n rows, whose dtype and device v has.

    Example:
        >>> centred = torch.eye(3, dtype=torch.float64) - 1 / 3
        >>> round(largest_eigenvalue(lambda v: centred @ v, centred), 6)
        1.0
    """
    v, size = _generic(len(like)).to(like), 0.0
    for _ in range(POWER_STEPS):
        v = multiply(v / v.norm())
        size = float(v.norm())
        if not _SMALLEST < size < 1 / _SMALLEST:  # the squares in the norm leave the range
            top = float(v.abs().max())
            if top == 0:  # the operator is zero
                return 0.0
            v = v / top
            size = top * float(v.norm())
    return size


@lru_cache(maxsize=8)
def _generic(n: int) -> Tensor:
    """A constant vector plus a fixed normal draw, (n, 1); it must not be changed."""
    generator = torch.Generator().manual_seed(0)
    return 1 + torch.randn(n, 1, generator=generator, dtype=torch.float64)

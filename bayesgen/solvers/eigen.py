"""Eigenvalues of symmetric matrices, and the size of their rounding errors."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

# Up to this order, torch's eigenvalues are as fast as SciPy's. SciPy's threads keep spinning after
# the call and delay torch's next one by milliseconds.
_FEW = 600
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
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(len(like), 1, generator=generator, dtype=torch.float64)
    v, size = (1 + draw).to(like), 0.0
    for _ in range(POWER_STEPS):
        v = multiply(v / v.norm())
        size = float(v.norm())
        if size == 0:  # the operator is zero
            break
    return size

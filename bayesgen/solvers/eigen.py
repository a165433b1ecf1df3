"""Eigenvalues of symmetric matrices, and the size of the rounding in them."""

from __future__ import annotations

import math
from collections.abc import Callable

import scipy.linalg
import torch
from torch import Tensor

# Up to this order torch's eigenvalues are as quick as SciPy's, whose threads spin on and keep
# torch's next call waiting for milliseconds.
_FEW = 600


def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (n,), ascending, and eigenvectors (n, n) of a symmetric matrix (n, n).

    On a CPU this is LAPACK's divide and conquer as SciPy ships it, measured faster there than
    `torch.linalg.eigh`; elsewhere, and for many matrices at once (B, n, n), it is
    `torch.linalg.eigh`. Not differentiable.

    Example:
        >>> eigenvalues, vectors = eigh(torch.diag(torch.tensor([2.0, 1.0])))
        >>> eigenvalues
        tensor([1., 2.])
    """
    if matrix.device.type == "cpu" and matrix.ndim == 2:
        values, vectors = scipy.linalg.eigh(
            matrix.detach().numpy(), driver="evd", check_finite=False
        )
        return torch.from_numpy(values), torch.from_numpy(vectors)
    values, vectors = torch.linalg.eigh(matrix.detach())
    return values, vectors


def eigvalsh(matrix: Tensor) -> Tensor:
    """Eigenvalues alone, (n,), ascending: in half the time of `eigh`, or less. Not differentiable.

    Example:
        >>> eigvalsh(torch.diag(torch.tensor([2.0, 1.0])))
        tensor([1., 2.])
    """
    if matrix.device.type == "cpu" and len(matrix) > _FEW:
        given = matrix.detach().numpy()
        return torch.from_numpy(
            scipy.linalg.eigh(given, driver="evr", eigvals_only=True, check_finite=False)
        )
    return torch.linalg.eigvalsh(matrix.detach())


def rounding_norm(n: int, largest: float, dtype: torch.dtype) -> float:
    """Size ‖E‖₂ of the rounding in an (n, n) symmetric matrix with this largest eigenvalue.

    √n · eps · λ_max: the norm of a symmetric matrix of independent rounding errors of relative
    size eps grows as √n; the factorisation's own backward error is of the same order. Checked
    against float64 in the tests.
    """
    return math.sqrt(n) * torch.finfo(dtype).eps * largest


def largest_eigenvalue(multiply: Callable[[Tensor], Tensor], start: Tensor) -> float:
    """Largest eigenvalue of a PSD operator, by a few power iterations: from below, nearly.

    Args:
        multiply: v (n, 1) → Av.
        start: a vector to start from, (n, 1).
    """
    v, size = start, 0.0
    for _ in range(8):
        v = multiply(v / v.norm())
        size = float(v.norm())
    return size

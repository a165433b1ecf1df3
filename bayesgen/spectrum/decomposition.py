"""Singular value decomposition of a model's features, with the size of its rounding error."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bayesgen import solvers
from bayesgen._internal import checks


@dataclass(frozen=True)
class Rounding:
    """Size of the rounding error of K, in the spectral norm unless stated otherwise.

    Attributes:
        matrix: ‖δK‖ where K itself was rounded and then decomposed.
        root: ‖δΦ‖ where a square root Φ of K was decomposed, which keeps small eigenvalues
            accurate.
        entries: ‖δK‖_F in the Frobenius norm, for rounding errors that are independent between
            entries; their spectral norm is taken to be 2/√n of it (Wigner).
    """

    matrix: float = 0.0
    root: float = 0.0
    entries: float = 0.0


METHODS = {
    "svd": "exact, by SVD of features",
    "gram": "exact up to rounding, by eigendecomposition of ΦᵀΦ",
}

CHOICES = (*METHODS, "auto")


@dataclass(frozen=True)
class Decomposition:
    """Singular value decomposition Φ = U diag(σ) Vᵀ, without directions below the rounding level.

    Attributes:
        left: U, (n, r).
        singular: σ, (r,).
        right: V, (d, r).
        by: how it was computed, "svd" or "gram".
    """

    left: Tensor
    singular: Tensor
    right: Tensor
    by: str

    @property
    def method(self) -> str:
        """Description of how the decomposition was computed."""
        return METHODS[self.by]

    @property
    def rounding(self) -> Rounding:
        """Rounding error of ΦΦᵀ that follows from the decomposition."""
        n, dtype, top = len(self.left), self.left.dtype, float(self.singular.max())
        if self.by == "gram":
            return Rounding(matrix=solvers.rounding_norm(n, top**2, dtype))
        return Rounding(root=n**0.5 * torch.finfo(dtype).eps * top)


def decompose(Phi: Tensor, by: str) -> Decomposition:
    """Singular value decomposition of Φ, (n, d).

    With more features than points, the SVD is computed from Φ's (n, n) triangular factor.

    Args:
        Phi: features, (n, d).
        by: "svd"; "gram" for the eigenvectors of ΦᵀΦ, which needs d ≤ n; or "auto", which is "gram"
            for d ≤ n and else "svd".

    Raises:
        ValueError: `by` is none of these; or, with "gram", Φ has more features than points or
            is zero.
    """
    n, d = Phi.shape
    if checks.one_of("decomposition", by, CHOICES) == "auto":
        by = "gram" if d <= n else "svd"
    if by == "svd":
        if d > n:
            Q, R = torch.linalg.qr(Phi.mT)
            left, singular, inner = torch.linalg.svd(R.mT, full_matrices=False)
            return Decomposition(left, singular, Q @ inner.mT, by)
        left, singular, right = torch.linalg.svd(Phi, full_matrices=False)
        return Decomposition(left, singular, right.mT, by)
    if d > n:
        raise ValueError(f"Phi must have no more features than points, got shape {(n, d)}")
    values, right = solvers.eigh(Phi.mT @ Phi)
    keep = values > n * torch.finfo(Phi.dtype).eps * values[-1]
    if not keep.any():
        raise ValueError("Phi must not be zero")
    singular, right = values[keep].sqrt(), right[:, keep].contiguous()
    return Decomposition(Phi @ (right / singular), singular, right, by)

"""Singular vectors of a model's features, and how sure they are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bayesgen import solvers
from bayesgen._internal import checks


@dataclass(frozen=True)
class Rounding:
    """What rounding may have done to K, in the spectral norm unless it says otherwise.

    Attributes:
        matrix: ‖δK‖ where K itself was rounded and decomposed.
        root: ‖δΦ‖ where its square root Φ was: small eigenvalues then keep their digits.
        entries: ‖δK‖_F of roundings that are independent from entry to entry, in the Frobenius
            norm; their spectral norm is taken for 2/√n of it (Wigner).
    """

    matrix: float = 0.0
    root: float = 0.0
    entries: float = 0.0


METHODS = {
    "svd": "exact, by SVD of features",
    "gram": "exact up to rounding, by eigendecomposition of ΦᵀΦ",
}


@dataclass(frozen=True)
class Decomposition:
    """Φ = U diag(σ) Vᵀ, or the part of it that can be told from rounding.

    Attributes:
        left: U, (n, r).
        singular: σ, (r,).
        right: V, (d, r).
        by: "svd" or "gram".
    """

    left: Tensor
    singular: Tensor
    right: Tensor
    by: str

    @property
    def method(self) -> str:
        """How it was computed, in words."""
        return METHODS[self.by]

    @property
    def rounding(self) -> Rounding:
        """How uncertain ΦΦᵀ is by it."""
        n, dtype, top = len(self.left), self.left.dtype, float(self.singular.max())
        if self.by == "gram":
            return Rounding(matrix=solvers.rounding_norm(n, top**2, dtype))
        return Rounding(root=n**0.5 * torch.finfo(dtype).eps * top)


def decompose(Phi: Tensor, by: str) -> Decomposition:
    """Singular vectors of Φ (n, d), by "svd" or, for d ≤ n, by "gram": eigenvectors of ΦᵀΦ.

    With more features than points the SVD is that of Φ's (n, n) triangular factor.
    """
    n, d = Phi.shape
    if checks.one_of("decomposition", by, tuple(METHODS)) == "svd":
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

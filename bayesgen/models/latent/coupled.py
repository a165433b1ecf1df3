"""Newton's problem for latent functions that the prior couples, under any log-concave likelihood.

What a row's likelihood sees is f₀ + Hg, (C,), for K latent values g of its own; the prior
covariance is of all nK of them together, as of a network linearised in its weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bayesgen import solvers
from bayesgen.likelihoods.likelihood import Likelihood
from bayesgen.models.latent.newton import LatentCurvature


class CoupledProblem:
    """One task of n rows under g ~ N(0, K), K (nK, nK); g is handed around as (nK, 1).

    Args:
        likelihood: log-concave.
        y: in the likelihood's inner form, (n, ...).
        offset: f₀, (n, C).
        basis: H, (C, K).
    """

    def __init__(self, likelihood: Likelihood, y: Tensor, offset: Tensor, basis: Tensor) -> None:
        self.likelihood, self.y, self.offset, self.basis = likelihood, y, offset, basis

    def outputs(self, g: Tensor) -> Tensor:
        """f₀ + Hg, (n, C)."""
        return self.offset + g.reshape(len(self.offset), -1) @ self.basis.mT

    def value(self, f: Tensor) -> Tensor:
        """See `Problem`."""
        return self.likelihood.log_density(self.y, self.outputs(f)).sum()

    def gradient(self, f: Tensor) -> Tensor:
        """See `Problem`."""
        with torch.enable_grad():
            free = f.detach().requires_grad_()
            return torch.autograd.grad(self.value(free), free)[0]

    def curvature(self, K: Tensor, f: Tensor) -> LatentCurvature:
        """See `Problem`; W ≥ 0, the likelihood being log-concave."""
        values, vectors = self.likelihood.roots(self.y, self.outputs(f))
        turned = torch.einsum("ck,nce->nke", self.basis, vectors)
        return CoupledCurvature(K, turned * values.sqrt()[:, None, :], self, f)

    def majorant(self, K: Tensor, f: Tensor) -> LatentCurvature:
        """See `Problem`."""
        return self.curvature(K, f)

    def pull(self, f: Tensor, covariance: Tensor) -> Tensor:
        """∂/∂g of Σᵢ tr SᵢWᵢ(g) for fixed Sᵢ (n, K, K), as (nK, 1)."""
        wide = self.basis @ covariance @ self.basis.mT

        with torch.enable_grad():
            free = f.detach().requires_grad_()
            outputs = self.outputs(free)
            value = self.likelihood.log_density(self.y, outputs).sum()
            (first,) = torch.autograd.grad(value, outputs, create_graph=True)
            total = free.new_zeros(())
            for c, column in enumerate(first.mT):
                (row,) = torch.autograd.grad(column.sum(), outputs, create_graph=True)
                total = total - (row * wide[:, c]).sum()
            return torch.autograd.grad(total, free)[0]


class CoupledCurvature(LatentCurvature):
    """W = LLᵀ, block by block of a row, by the Cholesky factor of B = I + LᵀKL.

    Args:
        K: prior covariance, (nK, nK).
        root: L, (n, K, R).
        problem: whose W it is.
        f: where.
    """

    def __init__(self, K: Tensor, root: Tensor, problem: CoupledProblem, f: Tensor) -> None:
        self.K, self.root, self.problem, self.f = K, root, problem, f
        self.factor = solvers.cholesky(self._matrix)
        self._blocks: Tensor | None = None

    def _left(self, matrix: Tensor) -> Tensor:
        """Lᵀ times a matrix (nK, m), (nR, m)."""
        n, width, R = self.root.shape
        return (self.root.mT @ matrix.reshape(n, width, -1)).reshape(n * R, -1)

    def whitened(self) -> Tensor:
        """LᵀKL, (nR, nR): twice from the left, where rows lie together."""
        return self._left(self._left(self.K).mT.contiguous())

    def _matrix(self) -> Tensor:
        B = self.whitened()
        B.diagonal().add_(1)
        return B

    def times(self, v: Tensor) -> Tensor:
        """See `LatentCurvature.times`: L B⁻¹ Lᵀ v, for any number of columns."""
        n, width, R = self.root.shape
        inner = (self.root.mT @ v.reshape(n, width, -1)).reshape(n * R, -1)
        solved = self.factor.solve(inner).reshape(n, R, -1)
        return (self.root @ solved).reshape(v.shape)

    def logdet(self) -> Tensor:
        """See `LatentCurvature.logdet`."""
        return self.factor.logdet()

    def blocks(self) -> Tensor:
        """See `LatentCurvature.blocks`; one function of nK points."""
        wide = torch.block_diag(*self.root)
        half = torch.linalg.solve_triangular(self.factor.lower, wide.mT, upper=False)
        return (half.mT @ half)[None]

    def trace(self) -> Tensor:
        """tr W, which bounds tr R."""
        return self.root.square().sum()

    def posterior_blocks(self) -> Tensor:
        """The posterior covariances of each row's latent values, (n, K, K)."""
        if self._blocks is None:
            n, width, _ = self.root.shape
            half = torch.linalg.solve_triangular(self.factor.lower, self._left(self.K), upper=False)
            rows = half.mT.contiguous().reshape(n, width, -1)
            own = self.K.reshape(n, width, n, width).diagonal(dim1=0, dim2=2).movedim(-1, 0)
            self._blocks = torch.baddbmm(own, rows, rows.mT, alpha=-1)
        return self._blocks

    def effective_dimension(self) -> Tensor:
        """See `LatentCurvature.effective_dimension`."""
        return torch.einsum("nkl,nkr,nlr->", self.posterior_blocks(), self.root, self.root)

    def determinant_slope(self) -> Tensor:
        """See `LatentCurvature.determinant_slope`."""
        return -0.5 * self.problem.pull(self.f, self.posterior_blocks())

    def variance(self) -> Tensor:
        """See `LatentCurvature.variance`; of the nK latent values."""
        return self.posterior_blocks().diagonal(dim1=-2, dim2=-1).reshape(-1)

    def covariances(self, cross: Tensor, prior: Tensor) -> Tensor:
        """See `LatentCurvature.covariances`."""
        return (prior - (cross * self.times(cross)).sum(0)).clamp(min=0)

"""Newton's problem for latent functions that the prior couples, under any log-concave likelihood.

Each row has K latent values g, and its likelihood depends on the outputs f₀ + Hg, (C,). The prior
covariance covers all nK latent values together. A network that is linearised in its weights has
such a prior.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bayesgen import solvers
from bayesgen.likelihoods.likelihood import Likelihood
from bayesgen.models.latent.newton import LatentCurvature


class CoupledProblem:
    """One task of n rows with prior g ~ N(0, Σ₀), Σ₀ (nK, nK); implements `LatentProblem`.

    The latent values g are passed around with shape (nK, 1).

    Args:
        likelihood: a log-concave likelihood.
        y: targets in the likelihood's inner form, (n, ...).
        offset: outputs f₀ at g = 0, (n, C).
        basis: matrix H from latent values to outputs, (C, K).
    """

    def __init__(self, likelihood: Likelihood, y: Tensor, offset: Tensor, basis: Tensor) -> None:
        self.likelihood, self.y, self.offset, self.basis = likelihood, y, offset, basis

    def outputs(self, g: Tensor) -> Tensor:
        """The outputs f₀ + Hg, (n, C)."""
        return self.offset + g.reshape(len(self.offset), -1) @ self.basis.mT

    log_concave = True

    def starts(self, K: Tensor) -> list[Tensor]:
        """The prior mean; see `LatentProblem.starts`."""
        return [K.new_zeros(len(K), 1)]

    def restart(self, K: Tensor, f: Tensor, a: Tensor) -> Tensor:
        """The solution a; see `LatentProblem.restart`."""
        return a

    def value(self, f: Tensor) -> Tensor:
        """The log likelihood; see `LatentProblem.value`."""
        return self.likelihood.log_density(self.y, self.outputs(f)).sum()

    def gradient(self, f: Tensor) -> Tensor:
        """Gradient of the log likelihood; see `LatentProblem.gradient`."""
        with torch.enable_grad():
            free = f.detach().requires_grad_()
            return torch.autograd.grad(self.value(free), free)[0]

    def curvature(self, K: Tensor, f: Tensor) -> LatentCurvature:
        """Curvature at f; see `LatentProblem.curvature`. W is PSD for log-concave likelihoods."""
        values, vectors = self.likelihood.roots(self.y, self.outputs(f))
        turned = torch.einsum("ck,nce->nke", self.basis, vectors)
        return CoupledCurvature(K, turned * values.sqrt()[:, None, :], self, f)

    def majorant(self, K: Tensor, f: Tensor) -> LatentCurvature:
        """The curvature itself, which is PSD; see `LatentProblem.majorant`."""
        return self.curvature(K, f)

    def pull(self, f: Tensor, covariance: Tensor) -> Tensor:
        """Gradient in g of Σᵢ tr SᵢWᵢ(g) for fixed matrices S, (nK, 1).

        Args:
            f: latent values g, (nK, 1).
            covariance: the matrices S, (n, K, K).
        """
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
    """A curvature W = LLᵀ with one block for each row, by the Cholesky factor of B = I + LᵀKL.

    Args:
        K: prior covariance of all latent values, (nK, nK).
        root: square roots L of the blocks, (n, K, R).
        problem: the problem whose curvature it is.
        f: latent values at which it was taken, (nK, 1).
    """

    def __init__(self, K: Tensor, root: Tensor, problem: CoupledProblem, f: Tensor) -> None:
        self.K, self.root, self.problem, self.f = K, root, problem, f
        self.factor = solvers.cholesky(self._matrix)
        self._blocks: Tensor | None = None

    def _left(self, matrix: Tensor) -> Tensor:
        """Product of Lᵀ with a matrix (nK, m), of shape (nR, m)."""
        n, width, R = self.root.shape
        return (self.root.mT @ matrix.reshape(n, width, -1)).reshape(n * R, -1)

    def whitened(self) -> Tensor:
        """The matrix LᵀKL, (nR, nR).

        Both products are taken from the left, because rows are contiguous in memory.
        """
        return self._left(self._left(self.K).mT.contiguous())

    def _matrix(self) -> Tensor:
        B = self.whitened()
        B.diagonal().add_(1)
        return B

    def times(self, v: Tensor) -> Tensor:
        """Product R v = L B⁻¹ Lᵀ v for any number of columns; see `LatentCurvature.times`."""
        n, width, R = self.root.shape
        inner = (self.root.mT @ v.reshape(n, width, -1)).reshape(n * R, -1)
        solved = self.factor.solve(inner).reshape(n, R, -1)
        return (self.root @ solved).reshape(v.shape)

    def logdet(self) -> Tensor:
        """Log-determinant of I + KW; see `LatentCurvature.logdet`."""
        return self.factor.logdet()

    def blocks(self) -> Tensor:
        """The whole of R as one block, (1, nK, nK); see `LatentCurvature.blocks`."""
        wide = torch.block_diag(*self.root)
        half = torch.linalg.solve_triangular(self.factor.lower, wide.mT, upper=False)
        return (half.mT @ half)[None]

    def trace(self) -> Tensor:
        """The trace of W, an upper bound of tr R; see `LatentCurvature.trace`."""
        return self.root.square().sum()

    def posterior_blocks(self) -> Tensor:
        """Posterior covariance of the latent values of each row, (n, K, K)."""
        if self._blocks is None:
            n, width, _ = self.root.shape
            half = torch.linalg.solve_triangular(self.factor.lower, self._left(self.K), upper=False)
            rows = half.mT.contiguous().reshape(n, width, -1)
            own = self.K.reshape(n, width, n, width).diagonal(dim1=0, dim2=2).movedim(-1, 0)
            self._blocks = torch.baddbmm(own, rows, rows.mT, alpha=-1)
        return self._blocks

    def effective_dimension(self) -> Tensor:
        """The trace of ΣW; see `LatentCurvature.effective_dimension`."""
        return torch.einsum("nkl,nkr,nlr->", self.posterior_blocks(), self.root, self.root)

    def determinant_slope(self) -> Tensor:
        """Gradient of −½ log |I + KW|; see `LatentCurvature.determinant_slope`."""
        return -0.5 * self.problem.pull(self.f, self.posterior_blocks())

    def variance(self) -> Tensor:
        """Posterior variances of the nK latent values; see `LatentCurvature.variance`."""
        return self.posterior_blocks().diagonal(dim1=-2, dim2=-1).reshape(-1)

    def covariances(self, cross: Tensor, prior: Tensor) -> Tensor:
        """Posterior variances at other points; see `LatentCurvature.covariances`."""
        return (prior - (cross * self.times(cross)).sum(0)).clamp(min=0)

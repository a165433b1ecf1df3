"""Newton's problem with W = diag(π) − ΠΠᵀ, for classes under a softmax."""

from __future__ import annotations

import torch
from torch import Tensor

from bayesgen.models.latent.newton import LatentCurvature, factorise


class SoftmaxProblem:
    """One task with one-hot targets y, (n, C), under a softmax of C latent functions.

    It implements `LatentProblem`.
    """

    def __init__(self, y: Tensor) -> None:
        self.y = y

    log_concave = True

    def starts(self, K: Tensor) -> list[Tensor]:
        """The prior mean; see `LatentProblem.starts`."""
        return [torch.zeros_like(self.y)]

    def restart(self, K: Tensor, f: Tensor, a: Tensor) -> Tensor:
        """The solution a; see `LatentProblem.restart`."""
        return a

    def value(self, f: Tensor) -> Tensor:
        """The log likelihood; see `LatentProblem.value`."""
        return (self.y * f).sum() - f.logsumexp(-1).sum()

    def gradient(self, f: Tensor) -> Tensor:
        """Gradient y − π of the log likelihood; see `LatentProblem.gradient`."""
        return self.y - f.softmax(-1)

    def curvature(self, K: Tensor, f: Tensor) -> LatentCurvature:
        """Curvature W = diag(π) − ΠΠᵀ, which is PSD; see `LatentProblem.curvature`."""
        return SoftmaxCurvature(K, f.softmax(-1))

    def majorant(self, K: Tensor, f: Tensor) -> LatentCurvature:
        """The curvature itself, which is PSD; see `LatentProblem.majorant`."""
        return self.curvature(K, f)


class SoftmaxCurvature(LatentCurvature):
    """The curvature W = diag(π) − ΠΠᵀ, by one Cholesky factorisation per class and one of S.

    With E_c = (K + D_c⁻¹)⁻¹ and S = Σ E_c, R = E − E 1 S⁻¹ 1ᵀ E and |I + KW| = |S| Π_c |I + K D_c|.

    Source: Rasmussen & Williams (2006), Algorithm 3.3; the determinant printed there omits |S|.
    """

    def __init__(self, K: Tensor, probabilities: Tensor) -> None:
        self.K, self.probabilities = K, probabilities
        n, C = probabilities.shape
        self._own: Tensor | None = None
        self._blocks: Tensor | None = None
        self.E = K.new_empty(C, n, n)
        self.log_determinants = K.new_zeros(())
        for c, p in enumerate(probabilities.mT):
            root, factor = p.sqrt(), factorise(K, p)
            self.log_determinants += factor.logdet()
            self.E[c] = factor.into_inverse()
            self.E[c].mul_(root[:, None]).mul_(root)
        self.sum = torch.linalg.cholesky(self.E.sum(0))

    def times(self, v: Tensor) -> Tensor:
        """The product R v; see `LatentCurvature.times`."""
        Ev = torch.einsum("cij,jc->ic", self.E, v)
        shared = torch.cholesky_solve(Ev.sum(1, keepdim=True), self.sum)
        return Ev - (self.E @ shared)[..., 0].mT

    def pulls(self, f: Tensor, noise: Tensor) -> Tensor:
        """Draws R f + (I − RK) W^½ε of covariance R, (count, n, C).

        In each row, W^½ε = √π ⊙ ε − π √πᵀε has covariance W.

        Args:
            f: draws from the prior N(0, K), (count, n, C).
            noise: standard normal draws ε, (count, n, C).
        """
        scaled = self.probabilities.sqrt() * noise
        rooted = scaled - self.probabilities * scaled.sum(-1, keepdim=True)
        return torch.stack([r + self.times(v - self.K @ r) for v, r in zip(f, rooted, strict=True)])

    def logdet(self) -> Tensor:
        """Log-determinant of I + KW; see `LatentCurvature.logdet`."""
        return self.log_determinants + 2 * self.sum.diagonal().log().sum()

    def blocks(self) -> Tensor:
        """Diagonal blocks of R; see `LatentCurvature.blocks`."""
        if self._blocks is None:
            self._blocks = self.E.clone()
            for block, E in zip(self._blocks, self.E, strict=True):
                half = self._half(E)
                block.addmm_(half.mT, half, alpha=-1)
        return self._blocks

    def _half(self, matrix: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(self.sum, matrix, upper=False)

    def effective_dimension(self) -> Tensor:
        """The trace of ΣW; see `LatentCurvature.effective_dimension`."""
        p, cov = self.probabilities, self.covariances(self.K, self.K.diagonal())
        return (cov.diagonal(dim1=-2, dim2=-1) * p).sum() - torch.einsum("ia,iab,ib", p, cov, p)

    def determinant_slope(self) -> Tensor:
        """Gradient of −½ log |I + KW|; see `LatentCurvature.determinant_slope`."""
        # With h = tr Σᵢ W(f): ∂h/∂π = diag Σᵢ − 2Σᵢπ, ∂π_a/∂f_c = π_a (δ_ac − π_c).
        p, cov = self.probabilities, self.covariances(self.K, self.K.diagonal())
        q = cov.diagonal(dim1=-2, dim2=-1) - 2 * torch.einsum("iab,ib->ia", cov, p)
        return -0.5 * p * (q - (p * q).sum(-1, keepdim=True))

    def variance(self) -> Tensor:
        """Posterior variances at the inputs, (n, C); see `LatentCurvature.variance`."""
        return self.covariances(self.K, self.K.diagonal()).diagonal(dim1=-2, dim2=-1)

    def covariances(self, cross: Tensor, prior: Tensor) -> Tensor:
        """Posterior covariances at other points, (m, C, C); see `LatentCurvature.covariances`."""
        if cross is self.K and self._own is not None:
            return self._own
        C = len(self.E)
        halves, own = [], []
        for E in self.E:
            T = E @ cross
            own.append(prior - (cross * T).sum(0))
            halves.append(self._half(T))
        result = torch.stack(
            [torch.stack([(halves[a] * halves[b]).sum(0) for b in range(C)], -1) for a in range(C)],
            -2,
        )
        result = result + torch.diag_embed(torch.stack(own, -1))
        if cross is self.K:
            self._own = result
        return result

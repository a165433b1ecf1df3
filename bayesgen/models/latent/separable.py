"""Newton's problem with a diagonal W, for likelihoods with one latent value per observation."""

from __future__ import annotations

import torch
from torch import Tensor

from bayesgen.likelihoods.likelihood import Separable
from bayesgen.models.latent.newton import LatentCurvature, factorise


class SeparableProblem:
    """One output y, (n, 1), whose likelihood has one latent value for each observation.

    It implements `LatentProblem`.
    """

    def __init__(self, likelihood: Separable, y: Tensor) -> None:
        self.likelihood, self.y = likelihood, y

    def value(self, f: Tensor) -> Tensor:
        """The log likelihood; see `LatentProblem.value`."""
        return self.likelihood.element(self.y, f).sum()

    def gradient(self, f: Tensor) -> Tensor:
        """Gradient of the log likelihood; see `LatentProblem.gradient`."""
        return self.likelihood.derivatives(self.y, f).first

    def curvature(self, K: Tensor, f: Tensor) -> LatentCurvature | None:
        """Curvature at f, or None; see `LatentProblem.curvature`."""
        at = self.likelihood.derivatives(self.y, f)
        return _Diagonal.of(K, -at.second[:, 0], at.third[:, 0])

    def majorant(self, K: Tensor, f: Tensor) -> LatentCurvature:
        """Curvature with W ≥ 0; see `LatentProblem.majorant`."""
        W = self.likelihood.curvature(self.y, f)[:, 0]
        result = _Diagonal.of(K, W, torch.zeros_like(W))
        assert result is not None
        return result


class _Diagonal(LatentCurvature):
    """A diagonal curvature W = W₊ − W₋, by the Cholesky factor of I + W₊^½ K W₊^½.

    W has negative entries for likelihoods that are not log-concave. Then Σ⁻¹ = Σ₊⁻¹ − W₋. Σ exists
    where M = I − W₋^½ Σ₊ W₋^½, a small matrix over the points with W < 0, is positive definite.
    """

    def __init__(self, K: Tensor, W: Tensor, third: Tensor) -> None:
        self.K, self.W, self.third = K, W, third
        self.root = W.clamp(min=0).sqrt()
        self.factor = factorise(K, W.clamp(min=0))
        self.logdet_positive = self.factor.logdet()
        self.negative = (W < 0).nonzero()[:, 0]
        self.R: Tensor | None = None

    @classmethod
    def of(cls, K: Tensor, W: Tensor, third: Tensor) -> _Diagonal | None:
        result = cls(K, W, third)
        return result if not len(result.negative) or result._correct() else None

    def _correct(self) -> bool:
        """Compute V = Σ₊W₋^½ and K⁻¹V over the points with W < 0, and factorise M.

        Returns:
            Whether M is positive definite.
        """
        weight = (-self.W[self.negative]).sqrt()
        unit = self.K.new_zeros(len(self.K), len(weight))
        unit[self.negative, torch.arange(len(weight))] = weight
        self.kernel_v = unit - self._times_positive(self.K @ unit)
        self.v = self.K @ self.kernel_v
        M = torch.eye(len(weight), dtype=self.K.dtype, device=self.K.device)
        M = M - weight[:, None] * self.v[self.negative]
        self.lower, info = torch.linalg.cholesky_ex(0.5 * (M + M.mT))
        return not int(info)

    def _times_positive(self, v: Tensor) -> Tensor:
        if self.R is not None:  # the inverse has overwritten the factor
            return self.R @ v
        root = self.root[:, None]
        return root * self.factor.solve(root * v)

    def times(self, v: Tensor) -> Tensor:
        result = self._times_positive(v)
        if len(self.negative):
            inner = torch.cholesky_solve(self.kernel_v.mT @ v, self.lower)
            result = result - self.kernel_v @ inner
        return result

    def logdet(self) -> Tensor:
        result = self.logdet_positive
        if len(self.negative):
            result = result + 2 * self.lower.diagonal().log().sum()
        return result

    def _positive(self) -> tuple[Tensor, Tensor]:
        """R₊ = W₊^½ B⁻¹ W₊^½, which overwrites the factor, and the diagonal of B⁻¹."""
        if self.R is None:
            inverse = self.factor.into_inverse()
            self.diagonal = inverse.diagonal().clone()
            self.R = inverse.mul_(self.root[:, None]).mul_(self.root)
        return self.R, self.diagonal

    def blocks(self) -> Tensor:
        R, _ = self._positive()
        if len(self.negative):
            half = torch.linalg.solve_triangular(self.lower, self.kernel_v.mT, upper=False)
            R = R - half.mT @ half
        return R[None]

    def effective_dimension(self) -> Tensor:
        if not len(self.negative):
            return len(self.K) - self._positive()[1].sum()
        return (self.W * self.variance()).sum()

    def determinant_slope(self) -> Tensor:
        # ∂W/∂f = −third, therefore −½ tr Σ ∂W/∂f = ½ Σᵢᵢ third.
        return (0.5 * self.variance() * self.third)[:, None]

    def covariances(self, cross: Tensor, prior: Tensor) -> Tensor:
        """Posterior variances at other points; see `LatentCurvature.covariances`."""
        return (prior - (cross * self.times(cross)).sum(0)).clamp(min=0)

    def variance(self) -> Tensor:
        """Posterior variances Σᵢᵢ, (n,).

        They are (1 − (B⁻¹)ᵢᵢ)/W, or Kᵢᵢ − (KRK)ᵢᵢ where W is too small for that formula.
        """
        _, diagonal = self._positive()
        positive = self.W.clamp(min=0)
        variance = (1 - diagonal) / positive.clamp(min=torch.finfo(self.K.dtype).tiny)
        # Cancellation in 1 − B⁻¹ gives an error of eps/W. It matters where W is small against
        # 1/Kᵢᵢ, unless |third|, which multiplies the variance later, is as small as W.
        loud = (self.third.abs() > 1e3 * positive) & (positive * self.K.diagonal() < 1)
        direct = (loud | (self.W < 0)).nonzero()[:, 0]
        if len(direct):
            columns = self.K[:, direct]
            pulled = self._times_positive(columns)
            variance[direct] = self.K.diagonal()[direct] - (columns * pulled).sum(0)
        if len(self.negative):
            half = torch.linalg.solve_triangular(self.lower, self.v.mT, upper=False)
            variance = variance + half.square().sum(0)
        return variance

"""Newton's problem with a diagonal W, for likelihoods with one latent value per observation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bayesgen.likelihoods.likelihood import Separable
from bayesgen.models.latent.newton import LatentCurvature, factorise
from bayesgen.models.search.space import positive_mean_square

# Shares of the points that starts for a likelihood with several modes leave out.
_OUTLYING = (0.0, 0.2)
# Number of noises of the reweighted regression.
_LEVELS = 5


class SeparableProblem:
    """One output y, (n, 1), whose likelihood has one latent value for each observation.

    It implements `LatentProblem`.
    """

    def __init__(self, likelihood: Separable, y: Tensor) -> None:
        self.likelihood, self.y = likelihood, y

    @property
    def log_concave(self) -> bool:
        """Whether log p(y | f) is concave in f; see `LatentProblem`."""
        return self.likelihood.log_concave

    def starts(self, K: Tensor) -> list[Tensor]:
        """Solutions a = K⁻¹f to start from; see `LatentProblem.starts`.

        They are the prior mean and regressions on a guess of the latent values. A likelihood that
        is not log-concave is also started from reweighted regressions at smaller and smaller noise,
        and from those without the points that lie furthest from them.

        Source: Blake & Zisserman (1987) for the schedule of noises (graduated non-convexity).
        """
        zero = torch.zeros_like(self.y)
        if self.likelihood.labels:
            return [zero]
        guess = self.likelihood.latent_guess(self.y)
        weight = self.likelihood.curvature(self.y, guess)
        target = guess + self.gradient(guess) / weight
        full = _regression(K, weight, weight * target)
        if self.log_concave:
            # Large weights of a few points may carry the function far away at the others.
            even = weight / (1 + weight)
            return [zero, full, _regression(K, even, even * target)]
        robust = self._annealed(K, weight, target)
        starts, n = [zero, full, robust], len(target)
        for share in _OUTLYING:
            count = max(1, round(share * n))
            left = (target - K @ robust)[:, 0].abs()
            if count >= n:
                break
            kept = weight.clone()
            kept[left.topk(count).indices] = 0
            starts.append(_regression(K, kept, kept * target))
        return starts

    def _annealed(self, K: Tensor, weight: Tensor, target: Tensor) -> Tensor:
        """A regression reweighted at falling noise, from the size of the targets to the given."""
        least = -math.log(float(weight.max()))
        largest = max(math.log(positive_mean_square(target)), least)
        a = torch.zeros_like(target)
        for step in range(_LEVELS):
            level = math.exp(largest + (least - largest) * step / (_LEVELS - 1))
            # The weights of a Student-t likelihood with one degree of freedom.
            robust = 1 / (level + (target - K @ a).square())
            a = _regression(K, robust, robust * target)
        return a

    def restart(self, K: Tensor, f: Tensor, a: Tensor) -> Tensor:
        """One Newton step from the latent values f; see `LatentProblem.restart`.

        Source: Rasmussen & Williams (2006), Algorithm 3.1.
        """
        if self.likelihood.labels:
            return a
        weight = self.likelihood.curvature(self.y, f)
        return _regression(K, weight, weight * f + self.gradient(f))

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


def _regression(K: Tensor, weight: Tensor, weighted: Tensor) -> Tensor:
    """The solution a = K⁻¹f of a regression with noise variances 1/weight on weighted/weight."""
    curvature = _Diagonal(K, weight[:, 0], torch.zeros_like(weight[:, 0]))
    return weighted - curvature.times(K @ weighted)


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
        self.left = 0.5 * (M + M.mT)
        self.lower, info = torch.linalg.cholesky_ex(self.left)
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

    def definiteness(self) -> float:
        return float(torch.linalg.eigvalsh(self.left)[0]) if len(self.negative) else 1.0

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

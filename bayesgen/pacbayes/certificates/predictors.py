"""What certified distributions that are no posterior of one model predict."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bayesgen.posterior.posterior import ExactPosterior


@dataclass(frozen=True)
class Updated:
    """A posterior whose prior was itself a posterior, of a share of the data.

    Attributes:
        first: of the share that made the prior.
        x: the other inputs, (m, d).
        weights: s (sK + σ²I)⁻¹ (y − mean), (m, C), K its covariance there.
    """

    first: ExactPosterior
    x: Tensor
    weights: Tensor

    def mean(self, x_new: Tensor) -> Tensor:
        """Posterior mean at new points, (m', C)."""
        mean = self.first.mean(x_new)
        return mean.reshape(len(mean), -1) + self.first.covariance(x_new, self.x) @ self.weights


@dataclass(frozen=True)
class FittedPredictor:
    """A Gaussian Q whose mean was fitted to a bound (`mean="free"`).

    Attributes:
        prior: a posterior under the same prior, for its mean and kernel.
        weights: α, (n, C).
    """

    prior: ExactPosterior
    weights: Tensor

    def mean(self, x_new: Tensor) -> Tensor:
        """Mean of Q at new points, (m, C), up to what all outputs share."""
        return self.prior.prior_at(x_new, self.weights)

"""Predictors for certified distributions that are not the posterior of one model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bayesgen.posterior.posterior import ExactPosterior
from bayesgen.provenance import Data, Source


@dataclass(frozen=True)
class Updated:
    """A posterior whose prior is itself a posterior, fitted to a part of the data.

    Attributes:
        first: the posterior of the part that made the prior.
        x: the other inputs, (m, d).
        weights: s (sK + σ²I)⁻¹ (y − mean), (m, C), with K the prior covariance at x.
    """

    first: ExactPosterior
    x: Tensor
    weights: Tensor

    def learnt_from(self) -> list[Source]:
        """Where its mean comes from: the data of both parts."""
        return [*self.first.learnt_from(), Source("function", Data(self.x), "certify(split=)")]

    def mean(self, x_new: Tensor) -> Tensor:
        """Posterior mean at new points, (m', C)."""
        mean = self.first.mean(x_new)
        return mean.reshape(len(mean), -1) + self.first.covariance(x_new, self.x) @ self.weights


@dataclass(frozen=True)
class FittedPredictor:
    """A Gaussian Q whose mean was optimised for a bound (`mean="free"`).

    Attributes:
        prior: a posterior under the same prior, which provides its mean and kernel.
        weights: α of the mean, (n, C).
    """

    prior: ExactPosterior
    weights: Tensor

    def learnt_from(self) -> list[Source]:
        """Where its mean comes from: the data of the posterior."""
        return self.prior.learnt_from()

    def mean(self, x_new: Tensor) -> Tensor:
        """Mean of Q at new points, (m, C), up to a function that all outputs share."""
        return self.prior.prior_at(x_new, self.weights)

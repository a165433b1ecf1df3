"""Estimates of log p(D) and their intervals from the log weights of annealing in two directions."""

from __future__ import annotations

import math
from typing import NamedTuple

import scipy.optimize
import scipy.stats
import torch
from torch import Tensor


class EvidenceInterval(NamedTuple):
    """An interval of a log evidence, in nats.

    Attributes:
        lower, upper: its ends.
    """

    lower: float
    upper: float

    def contains(self, value: float) -> bool:
        """Whether a value lies in the interval, whose ends belong to it."""
        return self.lower <= value <= self.upper


def importance(forward: Tensor, backward: Tensor, failure: float) -> EvidenceInterval:
    """Bounds from the mean weights, for log weights of the two directions, (B,) each.

    E[w] = p(D) from draws of the prior, and E[1/w] = 1/p(D) from draws of the posterior. By
    Markov's inequality, for any number of chains,

        log p(D) ≥ log mean w − log 1/δ,   log p(D) ≤ −log mean 1/w + log 1/δ

    each with probability at least 1 − δ.

    Args:
        forward: log weights of chains that start at the prior.
        backward: log weights of chains that start at the posterior.
        failure: δ, the probability that one end fails.

    Source: Neal (2001); Grosse, Ancha & Roy (2016), section 3, for both directions.

    Example:
        >>> w = torch.zeros(4, dtype=torch.float64)
        >>> importance(w, w, 0.5)
        EvidenceInterval(lower=-0.6931471805599453, upper=0.6931471805599453)
    """
    margin = -math.log(failure)
    return EvidenceInterval(_log_mean(forward) - margin, -_log_mean(-backward) + margin)


def thermodynamic(forward: Tensor, backward: Tensor, failure: float) -> EvidenceInterval:
    """Bounds from the mean log weights, for log weights of the two directions, (B,) each.

    The mean log weights are Riemann sums of ∫ E_β[log p(D | θ)] dβ from the left and from the
    right. The integrand increases with β, and chains that have not reached equilibrium make the
    lower bound lower and the upper one higher. Student's quantile of the standard error over chains
    is added.

    Args:
        forward, backward, failure: as in `importance`.

    Source: Friel & Pettitt (2008); Grosse, Maddison & Salakhutdinov (2013), section 2.
    """
    quantile = float(scipy.stats.t.ppf(1 - failure, len(forward) - 1))
    ends = []
    for values, sign in ((forward, -1), (backward, 1)):
        if not bool(values.isfinite().all()):
            ends.append(sign * math.inf)
            continue
        error = float(values.std()) / math.sqrt(len(values))
        ends.append(float(values.mean()) + sign * quantile * error)
    return EvidenceInterval(*ends)


def bridge(forward: Tensor, backward: Tensor) -> tuple[float, float]:
    """The estimate of log p(D) by the acceptance ratio of both directions, and its standard error.

    It solves Σ_f s(a − z) = Σ_b s(z − b) with the logistic function s, for log weights a and b of
    the two directions. The error is a jackknife over chains, each with its two directions.

    Source: Bennett (1976); Crooks (2000).

    Example:
        >>> w = torch.tensor([-1.0, 1.0], dtype=torch.float64)
        >>> bridge(w, w)[0]
        0.0
    """
    whole, count = _crossing(forward, backward), len(forward)
    keep = ~torch.eye(count, dtype=torch.bool)
    left_out = torch.tensor([_crossing(forward[k], backward[k]) for k in keep])
    spread = (left_out - left_out.mean()).square().sum() * (count - 1) / count
    return whole, float(spread.sqrt())


def effective_sample_size(log_weights: Tensor) -> float:
    """Effective number of chains of importance weights, (Σ w)²/Σ w²."""
    return float((2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp())


def _log_mean(values: Tensor) -> float:
    return float(values.logsumexp(0)) - math.log(len(values))


def _crossing(forward: Tensor, backward: Tensor) -> float:
    ends = torch.cat([forward[forward.isfinite()], backward[backward.isfinite()]])
    low, high = float(ends.min()) - 1, float(ends.max()) + 1

    def excess(z: float) -> float:
        # On the log scale, because the sums underflow where the directions do not overlap.
        log = torch.nn.functional.logsigmoid
        return float(log(forward - z).logsumexp(0) - log(z - backward).logsumexp(0))

    return float(scipy.optimize.brentq(excess, low, high, xtol=1e-10))

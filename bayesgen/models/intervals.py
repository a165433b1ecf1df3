"""Predictive intervals from the quantiles of predictive distributions."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen.posterior.posterior import Posterior


class PredictiveInterval(NamedTuple):
    """The ends of central intervals, one for each new point and output.

    Attributes:
        lower: lower ends.
        upper: upper ends, of the same shape.
    """

    lower: Tensor
    upper: Tensor


def interval(posterior: Posterior, x_new: Any, level: Any, *, noise: bool) -> PredictiveInterval:
    """Central predictive intervals; see `bayesgen.models.reporting.Reporting.interval`."""
    likelihood = posterior.observed.likelihood
    if likelihood.labels:
        raise ValueError(
            f"interval is for real targets and counts, and this posterior is of class labels "
            f"({likelihood.name}): take posterior.predict(x_new).probs"
        )
    level = checks.amount("level", level)
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level:g}")
    checks.flag("noise", noise)
    found = posterior.predict(x_new, latent=not noise)
    tail = torch.tensor(0.5 * (1 - level), dtype=torch.float64)
    return PredictiveInterval(*(found.icdf(p.to(found.mean)) for p in (tail, 1 - tail)))

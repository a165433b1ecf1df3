"""Gibbs risks: the expected bounded loss of a function drawn from a posterior."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bayesgen._internal import checks
from bayesgen.pacbayes import expected_losses

if TYPE_CHECKING:
    from bayesgen.posterior.posterior import Posterior

# Draws of the latent values at each point. They are independent between points, so that the average
# over n points rests on n times as many.
DRAWS = 2000


def gibbs_risk(posterior: Posterior, tolerance: float = 1.0) -> float | None:
    """Compute `Posterior.gibbs_risk`; None where the likelihood has no bounded loss."""
    tau = checks.positive_number("tolerance", tolerance)
    if posterior.observed.batched:
        raise ValueError(
            "gibbs_risk needs a posterior of one task, got a batch: call "
            "posterior.task(0).gibbs_risk()"
        )
    y, likelihood = posterior.observed.y[0], posterior.observed.likelihood
    if not likelihood.labels and not likelihood.density:
        return None
    mean, variance = posterior.marginals()
    if not likelihood.labels:
        return float(expected_losses.saturating(mean, variance, y, tau).mean())
    if not likelihood.coupled:
        return float(expected_losses.zero_one(mean, variance, y[:, 0].long()).mean())
    generator = torch.Generator().manual_seed(0)
    values, vectors = torch.linalg.eigh(variance)
    root = vectors * values.clamp(min=0).sqrt()[..., None, :]
    wrong = 0.0
    for row in range(len(y)):
        z = torch.randn(DRAWS, y.shape[1], generator=generator, dtype=torch.float64).to(y)
        draws = mean[row] + z @ root[row].mT
        wrong += float(likelihood.errors(y[row], draws).double().mean())
    return wrong / len(y)

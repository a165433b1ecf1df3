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
    tau = float(checks.positive("tolerance", tolerance))
    if posterior.observed.batched:
        raise ValueError("gibbs_risk wants one task, got a batch: fit them one by one")
    y, kind = posterior.observed.y[0], posterior.observed.kind
    if kind == "poisson":
        return None
    mean, variance = posterior.marginals()
    if kind == "bernoulli":
        return float(expected_losses.zero_one(mean, variance, y[:, 0].long()).mean())
    if kind == "softmax":
        generator = torch.Generator().manual_seed(0)
        values, vectors = torch.linalg.eigh(variance)
        root = vectors * values.clamp(min=0).sqrt()[..., None, :]
        wrong = 0.0
        for row, label in enumerate(y.argmax(-1)):
            z = torch.randn(DRAWS, y.shape[1], generator=generator, dtype=torch.float64).to(y)
            wrong += float(((mean[row] + z @ root[row].mT).argmax(-1) != label).double().mean())
        return wrong / len(y)
    return float(expected_losses.saturating(mean, variance, y, tau).mean())

"""Fit models of latent functions: maximise Laplace's evidence over the hyperparameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from bayesgen._internal.progress import Progress
from bayesgen.covariance.gram import Gram
from bayesgen.covariance.linear import FeatureGram
from bayesgen.errors import NotConvergedError
from bayesgen.likelihoods.likelihood import Likelihood
from bayesgen.models.hyperparameters import Free
from bayesgen.models.latent.posterior import (
    LaplaceGPPosterior,
    LaplaceLinearPosterior,
    LaplacePosterior,
)
from bayesgen.models.latent.search import LaplaceSearch
from bayesgen.models.latent.setting import LatentFit
from bayesgen.posterior.posterior import Observed
from bayesgen.spectrum.maximise import ALL_ZERO


def best(
    grams: Sequence[Gram],
    likelihood: Likelihood,
    y: Any,
    *,
    scale: float,
    free: Free,
    starts: int = 6,
    seed: int = 0,
    progress: Progress | None = None,
) -> LaplacePosterior:
    """The posterior with the largest Laplace evidence over some prior covariances, for each task.

    Args:
        grams: the candidate prior covariances, on the same inputs.
        likelihood: likelihood of the targets.
        y: targets as the user passed them.
        scale: outputscale to keep or to start from.
        free: hyperparameters to learn.
        starts: number of starts that are climbed for each prior covariance.
        seed: seed of the starts.
        progress: called as progress(done, expected, what).

    Raises:
        NotConvergedError: no mode was found from any start for some task.
        ValueError: real targets are all zero, and a variance is learnt.
    """
    x = grams[0].x
    likelihood = likelihood.for_targets(y)
    inner = likelihood.targets(y, x)
    learns = free.scale or free.noise
    if likelihood.density and learns and (inner == 0).flatten(1).all(1).any():
        raise ValueError(ALL_ZERO)
    shape = torch.Size(np.shape(y))
    # Real targets may have an axis of outputs; labels and counts have none.
    batched = len(shape) == (3 if likelihood.density else 2)
    observed = Observed(inner, shape, batched, likelihood)
    fits: list[LatentFit] = []
    for task, targets in enumerate(inner):
        reached: list[LatentFit] = []
        failure: Exception | None = None
        for gram in grams:
            search = LaplaceSearch(gram, likelihood, targets, scale, free, starts, seed)
            try:
                reached.append(search.best(task, len(inner), progress))
            except (ValueError, NotConvergedError) as err:
                failure = err
        if not reached:
            assert failure is not None
            raise failure
        fits.append(max(reached, key=lambda found: found.log_evidence))
        if progress is not None:
            progress(len(fits), len(inner), f"task {len(fits)} of {len(inner)}")
    kind = LaplaceLinearPosterior if isinstance(grams[0], FeatureGram) else LaplaceGPPosterior
    return kind(observed, likelihood, fits, free.names())

"""Fit models of latent functions: maximise Laplace's evidence over the hyperparameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from bayesgen._internal.progress import Progress
from bayesgen.covariance.gram import Gram
from bayesgen.covariance.linear import FeatureGram
from bayesgen.errors import NotConvergedError
from bayesgen.likelihoods.likelihood import Likelihood
from bayesgen.models.hyperparameters import Free
from bayesgen.models.latent import Mode
from bayesgen.models.latent.posterior import (
    LaplaceGPPosterior,
    LaplaceLinearPosterior,
    LaplacePosterior,
    LatentSetting,
)
from bayesgen.models.latent.search import LaplaceSearch
from bayesgen.models.search.landscape import Landscape
from bayesgen.posterior.posterior import Observed


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
    """
    x = grams[0].x
    inner = likelihood.targets(y, x)
    shape = torch.as_tensor(y).shape
    # Real targets may have an axis of outputs; labels and counts have none.
    batched = len(shape) == (3 if likelihood.density else 2)
    observed = Observed(inner, shape, batched, likelihood)
    settings, modes, landscapes = [], [], []
    searches = [LaplaceSearch(g, likelihood, inner, scale, free, starts, seed) for g in grams]
    for number in range(len(inner)):
        reached: list[Found] = []
        failure: Exception | None = None
        for search in searches:
            try:
                at, found, peaks = search.best(number, progress)
                reached.append((at, found, search.landscape(peaks)))
            except (ValueError, NotConvergedError) as err:
                failure = err
        if not reached:
            assert failure is not None
            raise failure
        setting, found, landscape = max(reached, key=_log_evidence)
        settings.append(setting)
        modes.append(found)
        landscapes.append(landscape)
        if progress is not None:
            progress(len(modes), len(inner), f"task {len(modes)} of {len(inner)}")
    kind = LaplaceLinearPosterior if isinstance(grams[0], FeatureGram) else LaplaceGPPosterior
    return kind(observed, likelihood, settings, modes, free.names(), landscapes)


Found = tuple[LatentSetting, list[Mode], Landscape | None]


def _log_evidence(found: Found) -> float:
    return sum(float(m.evidence.log_marginal_likelihood) for m in found[1])

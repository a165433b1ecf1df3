"""Take a trained network to a mode of its log posterior, by L-BFGS on all of the data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bayesgen._internal import checks
from bayesgen._internal.progress import Progress
from bayesgen._internal.progress_bar import reporting
from bayesgen.likelihoods.likelihood import Likelihood
from bayesgen.models.network.mode import NegativeLogPosterior, find_mode, weight_prior
from bayesgen.networks.admission import undisturbed
from bayesgen.networks.copies import own_parameters
from bayesgen.networks.gradients import differentiating, parameters, trainable, trainable_copy
from bayesgen.networks.state import recompute
from bayesgen.provenance import training
from bayesgen.training.inputs import observations, precisions

# Relative distance from a stated height up to which it counts as reached.
_AT_HEIGHT = 1e-3


@dataclass(frozen=True)
class MapFit:
    """Result of `fit_map`: the log posterior reached, and how.

    Attributes:
        log_posterior: final value of log p(D | θ) − ½ Σ αᵢ(θᵢ − θ₀ᵢ)², in nats.
        gained: increase of the log posterior from the start, in nats.
        gradient_norm: norm of its gradient at the end.
        evaluations: number of passes over the data.
        converged: whether the optimiser reached its tolerance.
        reached: whether it ended at the stated height, up to 1e-3 of it; None without one. A
            network that starts above it is left as it is, and a maximum may be below it.
    """

    log_posterior: float
    gained: float
    gradient_norm: float
    evaluations: int
    converged: bool
    reached: bool | None = None


@training("bayesgen.fit_map")
@differentiating()
def fit_map(
    net: nn.Module,
    x: Any,
    y: Any = None,
    likelihood: str | Likelihood = "categorical",
    *,
    prior_precision: Any,
    prior_mean: nn.Module | None = None,
    noise: Any = None,
    steps: int = 200,
    pairs: int = 30,
    batch: int = 250,
    tolerance: float = 1e-7,
    height: float | None = None,
    progress: Progress | bool | None = None,
) -> MapFit:
    """Take a trained network to a mode of its log posterior, in place, by L-BFGS on all data.

        log p(D | θ) − ½ Σ αᵢ(θᵢ − θ₀ᵢ)²

    The Laplace evidence assumes a mode. Because of the noise of mini-batches, `train` is still far
    from one long after the labels are fitted. The passes use a copy of the network in evaluation
    mode, so running statistics of BatchNorm do not change and dropout is off. At the end the
    network has the weights found and is in evaluation mode; after an exception it is as it was.
    Random generators and `.grad` fields are left as they are.

    Args:
        net: a trained module from inputs (n, …) to outputs (n, C), or (n,) for one output.
        x, y, likelihood: as in `bayesgen.train`.
        prior_precision: α, a number or one value for each layer, (L,). A layer is a module that
            owns trainable parameters; parameters that layers share belong to the first of them.
        prior_mean: θ₀, a network of the same architecture; None for zero.
        noise: noise variance σ² of a Gaussian likelihood.
        steps: largest number of steps.
        pairs: number of difference pairs that L-BFGS stores, at 16 bytes per weight each. Far from
            a mode, a hundred pairs gain more per step.
        batch: number of observations processed at a time, to limit memory.
        tolerance: relative gain of the log posterior per step below which the optimisation stops.
        height: value of the log posterior, in nats, at which the optimisation stops, on the line of
            the last step. With α = 0 it brings networks to the same training loss, −height/n, at
            which their evidences can be compared; networks with a lower loss have a flatter mode.
        progress: called as progress(done, expected, what) after each pass over the data; True shows
            a progress bar.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range; the network is
            random or mixes the observations of a batch in evaluation mode; a weight is not finite.
        DivergedError: the log posterior or its gradient is not finite at the start.

    Source: Nocedal & Wright (2006), algorithm 7.5, in SciPy's implementation.

    Example:
        >>> import torch, bayesgen as bg
        >>> data = bg.data.load("digits", train=100, dtype=torch.float64)
        >>> _ = torch.manual_seed(0)
        >>> net = bg.networks.MLP(64, (8,), 10).double()
        >>> found = fit_map(net, data.x_train, data.y_train, prior_precision=1.0, steps=500)
        >>> found.converged, found.gained > 100
        (True, True)
    """
    whole = trainable(net, in_place=False)
    checks.whole("steps", steps)
    checks.whole("pairs", pairs)
    checks.whole("batch", batch)
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance must be finite and at least 0, got {tolerance}")
    top = math.inf if height is None else checks.number("height", height)
    copied = trainable_copy(whole)
    alpha = precisions(prior_precision, len(own_parameters(copied)))
    prior = weight_prior(copied, alpha.tolist(), prior_mean)
    data = observations(copied, x, y, likelihood, noise, fixed=True, original=whole)
    objective = NegativeLogPosterior(data.run, data.x, data.y, data.likelihood, prior, batch)
    with reporting(progress) as report, undisturbed(copied):
        found = find_mode(
            objective, steps=steps, pairs=pairs, tolerance=tolerance, height=top, progress=report
        )
    with torch.inference_mode():  # parameters made in this mode may be written in no other
        for mine, new in zip(parameters(whole), parameters(copied), strict=True):
            mine.copy_(new)
    net.eval()
    recompute(whole)
    reached = None
    if height is not None:
        reached = abs(found[0] - top) <= _AT_HEIGHT * max(abs(top), 1e-3 * len(data.y))
    return MapFit(*found[:3], objective.calls, found.converged, reached)

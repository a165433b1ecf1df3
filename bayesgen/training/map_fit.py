"""Take a trained network to a mode of its log posterior, by L-BFGS on all of the data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
import torch
from torch import Tensor, nn

from bayesgen._internal import checks
from bayesgen._internal.precision import tf32
from bayesgen._internal.progress import Progress
from bayesgen._internal.progress_bar import reporting
from bayesgen.errors import DivergedError
from bayesgen.likelihoods.likelihood import Likelihood
from bayesgen.provenance import training
from bayesgen.training.inputs import layers, observations, precisions


@dataclass(frozen=True)
class MapFit:
    """Result of `fit_map`: the log posterior reached, and how.

    Attributes:
        log_posterior: final value of log p(D | θ) − ½ Σ αᵢ(θᵢ − θ₀ᵢ)², in nats.
        gained: increase of the log posterior from the start, in nats.
        gradient_norm: norm of its gradient at the end.
        evaluations: number of passes over the data.
        converged: whether the optimiser reached its tolerance.
    """

    log_posterior: float
    gained: float
    gradient_norm: float
    evaluations: int
    converged: bool


@training("bayesgen.fit_map")
@tf32(False)
def fit_map(
    net: nn.Module,
    x: Any,
    y: Any,
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
    from one long after the labels are fitted. The network is in evaluation mode throughout, so
    running statistics of BatchNorm do not change.

    Args:
        net: a trained module from inputs (n, …) to outputs (n, C).
        x, y, likelihood: as in `bayesgen.train`.
        prior_precision: α, a number or one value for each layer, (L,).
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
        TypeError, ValueError: an argument has the wrong type or is out of range.
        DivergedError: the log posterior is not finite at the start.

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
    x, targets, own = observations(net, x, y, likelihood, noise)
    checks.whole("steps", steps)
    checks.whole("pairs", pairs)
    checks.whole("batch", batch)
    top = math.inf if height is None else float(checks.real("height", height))
    own_layers = layers(net)
    each = precisions(prior_precision, len(own_layers)).tolist()
    named = {} if prior_mean is None else checks.twin("prior_mean", prior_mean, net)
    names = {p: name for name, p in net.named_parameters()}
    weights, alpha, centre = [], [], []
    for layer, value in zip(own_layers, each, strict=True):
        for p in layer.parameters(False):
            if p.requires_grad:
                weights.append(p)
                alpha.append(np.full(p.numel(), value))
                centre.append(named.get(names[p], torch.zeros_like(p.detach())))
    objective = _Objective(net, x, targets, own, weights, np.concatenate(alpha), centre, batch)
    start = objective.gather([p.detach() for p in weights])
    first, slope = objective(start)
    if not math.isfinite(first):
        raise DivergedError(f"the log posterior is {-first}, not finite, at the weights given")
    if -first >= top:
        return MapFit(-first, 0.0, float(np.linalg.norm(slope)), objective.calls, False)
    with reporting(progress) as report:

        def follow(point: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = objective(point)
            if report is not None:
                said = f"log posterior {-value:.4g}, gradient {np.linalg.norm(gradient):.3g}"
                report(objective.calls, max(steps, objective.calls), said)
            return value, gradient

        below = start

        def high_enough(intermediate_result: scipy.optimize.OptimizeResult) -> None:
            nonlocal below
            if -intermediate_result.fun >= top:
                raise StopIteration
            below = intermediate_result.x.copy()

        found = scipy.optimize.minimize(
            follow,
            start,
            jac=True,
            method="L-BFGS-B",
            callback=high_enough,
            options={"maxiter": steps, "maxfun": 2 * steps, "maxcor": pairs, "ftol": tolerance},
        )
        value, gradient = follow(found.x)
        if -value > top:
            value, gradient = follow(_on_the_way(follow, below, found.x, -top))
    norm = float(np.linalg.norm(gradient))
    return MapFit(-value, first - value, norm, objective.calls, found.status == 0)


def _on_the_way(
    objective: Callable[[np.ndarray], tuple[float, np.ndarray]],
    start: np.ndarray,
    end: np.ndarray,
    value: float,
) -> np.ndarray:
    """Point on the line from start to end where the objective has just passed below a value."""
    step, near = end - start, 1e-4
    share = scipy.optimize.brentq(
        lambda share: objective(start + share * step)[0] - value, 0.0, 1.0, xtol=near / 2
    )
    return start + min(share + near, 1.0) * step


class _Objective:
    """The function −log p(D, θ) with its gradient, in the form that SciPy uses."""

    def __init__(
        self,
        net: nn.Module,
        x: Tensor,
        y: Tensor,
        likelihood: Likelihood,
        weights: list[nn.Parameter],
        alpha: np.ndarray,
        centre: list[Tensor],
        batch: int,
    ) -> None:
        self.net, self.x, self.y, self.likelihood = net, x, y, likelihood
        self.weights, self.alpha, self.batch = weights, alpha, batch
        self.centre = self.gather(centre)
        self.calls = 0

    def __call__(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient at weights (P,), which are also written to the network."""
        self.calls += 1
        at = 0
        with torch.no_grad():
            for p in self.weights:
                part = torch.from_numpy(point[at : at + p.numel()]).to(p)
                p.copy_(part.reshape(p.shape))
                at += p.numel()
        value, total = 0.0, np.zeros_like(point)
        pairs = zip(self.x.split(self.batch), self.y.split(self.batch), strict=True)
        for x, y in pairs:
            loss = -self.likelihood.log_density(y, self.net(x)).sum()
            total += self.gather(torch.autograd.grad(loss, self.weights))
            value += float(loss.detach())
        moved = point - self.centre
        return value + 0.5 * float(self.alpha @ moved**2), total + self.alpha * moved

    def gather(self, parts: Any) -> np.ndarray:
        """Join tensors into one vector, float64."""
        return torch.cat([p.reshape(-1) for p in parts]).double().cpu().numpy()

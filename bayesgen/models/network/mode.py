"""Find a mode of the log posterior of a network's weights, by L-BFGS on all of the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
import torch
from torch import Tensor, nn

from bayesgen._internal import checks
from bayesgen._internal.progress import Progress
from bayesgen.errors import DivergedError
from bayesgen.likelihoods.likelihood import Likelihood
from bayesgen.networks.copies import OwnParameters, own_parameters, plain
from bayesgen.networks.gradients import Passes, fill_gradients, parameters, without_gradients


class WeightPrior(NamedTuple):
    """Precisions αᵢ and means θ₀ᵢ of the weights' prior, (P,) each."""

    alpha: np.ndarray
    centre: np.ndarray


class FoundMode(NamedTuple):
    """Result of `find_mode`.

    Attributes:
        value: log p(D | θ) − ½ Σ αᵢ(θᵢ − θ₀ᵢ)² at the mode, in nats.
        gained: its increase from the start, in nats.
        gradient_norm: norm of its gradient.
        converged: whether the optimiser reached its tolerance.
    """

    value: float
    gained: float
    gradient_norm: float
    converged: bool


class NegativeLogPosterior:
    """The function −log p(D | θ) + ½ Σ αᵢ(θᵢ − θ₀ᵢ)² with its gradient, in SciPy's form.

    Sums over the data are float64.

    Args:
        run: passes through a network, which is changed by each evaluation.
        x: inputs, a tensor or `Inputs`.
        y: targets in their inner form, (n, …).
        likelihood: the likelihood.
        prior: the prior of the weights, in the order of `own_parameters`.
        batch: number of observations processed at a time.
    """

    def __init__(
        self, run: Passes, x: Any, y: Tensor, likelihood: Likelihood, prior: WeightPrior, batch: int
    ) -> None:
        self.run, self.x, self.y, self.likelihood = run, x, y.double(), likelihood
        self.prior, self.batch, self.calls = prior, batch, 0
        self.weights = parameters(run.net)

    def __call__(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient at weights (P,), which are also written to the network."""
        self.calls += 1
        self.write(point)
        value, total = 0.0, np.zeros_like(point)
        for x, y in zip(self.x.split(self.batch), self.y.split(self.batch), strict=True):
            loss = self.loss(x, y)
            if loss.requires_grad:
                loss.backward()
            fill_gradients(self.weights)
            total += gather([p.grad for p in self.weights])
            for p in self.weights:
                p.grad = None
            value += float(loss.detach())
        moved = point - self.prior.centre
        value += 0.5 * float(self.prior.alpha @ moved**2)
        return value, total + self.prior.alpha * moved

    def value(self, point: np.ndarray) -> float:
        """Value alone at weights (P,), in a third of the time; they are written to the network."""
        self.calls += 1
        self.write(point)
        with without_gradients():
            pairs = zip(self.x.split(self.batch), self.y.split(self.batch), strict=True)
            value = sum(float(self.loss(x, y)) for x, y in pairs)
        return value + 0.5 * float(self.prior.alpha @ (point - self.prior.centre) ** 2)

    def loss(self, x: Any, y: Tensor) -> Tensor:
        """Negative log likelihood of a batch at the network's weights, (), with its graph."""
        return -self.likelihood.log_density(y, self.run(x).double()).sum()

    def write(self, point: np.ndarray) -> None:
        """Write weights (P,) to the network."""
        write(self.weights, point)

    @property
    def point(self) -> np.ndarray:
        """The network's weights, (P,), float64."""
        return gather(self.weights)


def find_mode(
    objective: NegativeLogPosterior,
    *,
    steps: int,
    pairs: int,
    tolerance: float,
    height: float = math.inf,
    progress: Progress | None = None,
) -> FoundMode:
    """Take the network of an objective to a mode, from the weights that it has.

    Args:
        objective: the function to minimise.
        steps: largest number of steps.
        pairs: number of difference pairs that L-BFGS stores.
        tolerance: relative gain per step below which the optimisation stops.
        height: value of the log posterior at which it stops, on the line of the last step.
        progress: called as progress(done, expected, what) after each pass over the data.

    Raises:
        DivergedError: the log posterior or its gradient is not finite at the start.

    Source: Nocedal & Wright (2006), algorithm 7.5, in SciPy's implementation.
    """
    start = objective.point
    first, slope = objective(start)
    if not math.isfinite(first):
        raise DivergedError(f"the log posterior is {-first}, not finite, at the weights given")
    if not np.isfinite(slope).all():
        name = _owner(own_parameters(objective.run.net), int((~np.isfinite(slope)).argmax()))
        raise DivergedError(
            f"the gradient of the log posterior in {name!r} is not finite at the weights given"
        )
    if -first >= height:
        return FoundMode(-first, 0.0, float(np.linalg.norm(slope)), False)

    def follow(point: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = objective(point)
        if progress is not None:
            said = f"log posterior {-value:.4g}, gradient {np.linalg.norm(gradient):.3g}"
            progress(objective.calls, max(steps, objective.calls), said)
        return value, gradient

    below, at_below = start, first

    def high_enough(intermediate_result: scipy.optimize.OptimizeResult) -> None:
        nonlocal below, at_below
        if -intermediate_result.fun >= height:
            raise StopIteration
        below, at_below = intermediate_result.x.copy(), float(intermediate_result.fun)

    found = scipy.optimize.minimize(
        follow,
        start,
        jac=True,
        method="L-BFGS-B",
        callback=high_enough,
        options={"maxiter": steps, "maxfun": 2 * steps, "maxcor": pairs, "ftol": tolerance},
    )
    value, gradient = follow(found.x)
    if -value > height:
        ends = at_below + height, value + height
        point = _on_the_way(lambda p: objective.value(p) + height, below, found.x, ends)
        value, gradient = follow(point)
    norm = float(np.linalg.norm(gradient))
    return FoundMode(-value, first - value, norm, found.status == 0)


def weight_prior(
    net: nn.Module, alpha: Sequence[float], prior_mean: nn.Module | None
) -> WeightPrior:
    """The prior of a network's weights, from one precision for each of `own_parameters`.

    Args:
        net: the network.
        alpha: precision of each module that owns parameters, (L,).
        prior_mean: a network of the same architecture that holds the means; None for zero.

    Raises:
        TypeError, ValueError: the prior mean is of another architecture, or is not finite.
    """
    named = {}
    if prior_mean is not None:
        named = checks.twin("prior_mean", plain(prior_mean, "prior_mean"), net)
        for name, mean in named.items():
            checks.real(f"the parameter {name!r} of prior_mean", mean)
    precision, centre = [], []
    for own, value in zip(own_parameters(net), alpha, strict=True):
        for name, p in own.parameters.items():
            precision.append(np.full(p.numel(), float(value)))
            centre.append(named.get(own.full(name), torch.zeros_like(p.detach())))
    return WeightPrior(np.concatenate(precision), gather(centre))


def gather(parts: Any) -> np.ndarray:
    """Join tensors into one vector, float64."""
    joined: np.ndarray = (
        torch.cat([p.detach().reshape(-1) for p in parts]).double().cpu().numpy().copy()
    )
    return joined


def write(weights: Sequence[Tensor], point: np.ndarray) -> None:
    """Write a vector (P,) to tensors, in their order."""
    at = 0
    with torch.no_grad():
        for p in weights:
            part = torch.from_numpy(point[at : at + p.numel()]).to(p)
            p.copy_(part.reshape(p.shape))
            at += p.numel()


def _owner(own: list[OwnParameters], column: int) -> str:
    """Name of the parameter that a column of θ belongs to."""
    for each in own:
        for name, p in each.parameters.items():
            if column < p.numel():
                return each.full(name)
            column -= p.numel()
    raise IndexError(column)


def _on_the_way(
    above: Callable[[np.ndarray], float],
    start: np.ndarray,
    end: np.ndarray,
    values: tuple[float, float],
) -> np.ndarray:
    """Point on the line from start to end where a function has just passed below zero.

    Args:
        above: the function.
        start, end: the ends of the line, (P,).
        values: its values at the ends, which are not computed again.
    """
    step, near = end - start, 1e-4
    known = dict(zip((0.0, 1.0), values, strict=True))
    share = float(
        scipy.optimize.brentq(
            lambda share: known[share] if share in known else above(start + share * step),
            0.0,
            1.0,
            xtol=near / 2,
        )
    )
    return start + min(share + near, 1.0) * step

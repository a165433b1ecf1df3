"""Hamiltonian Monte Carlo for many chains at once, and a pilot run that chooses its settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from bayesgen.errors import NotConvergedError
from bayesgen.sampling.target import ChainStates, Target

# Aimed acceptance probability, and the gain of the stochastic approximation of the step size.
_AIM, _GAIN = 0.8, 0.4
# Share of the moves with a step much smaller than the adapted one, and the smallest factor. They
# free chains that lag behind the others, where the gradients are large.
_SMALL, _SMALLEST = 0.2, 1e-3
# Half the width of the range of the factors of the other steps, against periodic trajectories.
_JITTER = 0.2
# Standard deviation, over the chains of the pilot run, of the log weight of one step in β.
_STRIDE = 1.0
# Weight, in gradients, of the mean over all weights in the estimate of each weight's curvature.
_SHRINKAGE = 16
# Largest number of stages of the pilot run.
_MOST = 2000


class Kernel(NamedTuple):
    """Settings of the transitions at one inverse temperature.

    Attributes:
        beta: inverse temperature β of the likelihood.
        step: step size of the leapfrog integrator.
        scale: relative size of the steps of each whitened weight, (P,).
    """

    beta: float
    step: float
    scale: Tensor


class Move(NamedTuple):
    """Result of one transition: the new points and the acceptance probabilities, (B,)."""

    point: ChainStates
    acceptance: Tensor


class Stage(NamedTuple):
    """One inverse temperature of the pilot run.

    Attributes:
        kernel: settings of the transitions that the run arrived at.
        deviation: standard deviation of the log likelihood over the chains, in nats.
    """

    kernel: Kernel
    deviation: float


def transition(
    target: Target, point: ChainStates, kernel: Kernel, leaps: int, generator: torch.Generator
) -> Move:
    """One transition of every chain that leaves prior × likelihood^β invariant.

    Args:
        target: the distribution.
        point: states of the chains.
        kernel: β, step size and scales.
        leaps: largest number of leapfrog steps; the number is drawn from leaps/2 … leaps.
        generator: source of random numbers.

    The step size of each chain is multiplied by a random factor that does not depend on its state.

    Source: Neal (2011), sections 3.2 and 5.3.
    """
    beta, scale = kernel.beta, kernel.scale
    count = int(torch.randint(-(-leaps // 2), leaps + 1, (), generator=generator))
    start = torch.randn(point.z.shape, generator=generator, dtype=point.z.dtype)
    uniform = torch.rand(len(point.z), generator=generator, dtype=point.z.dtype)
    v, at, step = start, point, kernel.step * _factors(len(point.z), generator)
    for _ in range(count):
        v = v + 0.5 * step * scale * (beta * at.slope - at.z)
        at = target.at(at.z + step * scale * v)
        v = v + 0.5 * step * scale * (beta * at.slope - at.z)
    gain = _log_density(at, beta) - _log_density(point, beta)
    gain = gain - 0.5 * (v.square().sum(1) - start.square().sum(1))
    gain = torch.where(gain.isnan(), torch.full_like(gain, -math.inf), gain)
    return Move(at.where(uniform.log() < gain, point), gain.clamp(max=0).exp())


def _factors(chains: int, generator: torch.Generator) -> Tensor:
    """Random factors of the step sizes, (B, 1)."""
    a, b = torch.rand(2, chains, 1, generator=generator, dtype=torch.float64)
    return torch.where(a < _SMALL, _SMALLEST**b, 1 + _JITTER * (2 * b - 1))


def _log_density(point: ChainStates, beta: float) -> Tensor:
    """Log density of prior × likelihood^β up to a constant, (B,)."""
    tempered = beta * point.value if beta > 0 else torch.zeros_like(point.value)
    return tempered - 0.5 * point.z.square().sum(1)


def prior_draws(target: Target, chains: int, generator: torch.Generator) -> ChainStates:
    """Draws from the prior, with their log likelihoods.

    Raises:
        ValueError: the log likelihood is not a number at more than half of them.
    """
    z = torch.randn(chains, target.dimension, generator=generator, dtype=torch.float64)
    found = target.at(z)
    bad = int((~found.value.isfinite()).sum())
    if 2 * bad > chains:
        raise ValueError(
            "model must have a finite log likelihood at weights drawn from the prior, but "
            f"{bad} of {chains} are not finite"
        )
    return found


def pilot(
    target: Target,
    chains: int,
    repeats: int,
    leaps: int,
    generator: torch.Generator,
    progress: Callable[[float], None],
) -> list[Stage]:
    """Choose inverse temperatures, step sizes and scales by sequential Monte Carlo.

    The steps in β give the log weights a standard deviation of one nat. The chains are resampled by
    their weights at each step, so that they stay near equilibrium. The step size follows the
    acceptance by stochastic approximation, and the scales are the inverse roots of the mean squared
    gradients of the log density, which are its mean curvature.

    Args:
        target: the distribution.
        chains: number of chains.
        repeats: number of transitions at each inverse temperature.
        leaps: largest number of leapfrog steps.
        generator: source of random numbers.
        progress: called with β.

    Returns:
        The stages, from β = 0 to β = 1.

    Raises:
        NotConvergedError: β = 1 is not reached in 2,000 stages.

    Source: Del Moral, Doucet & Jasra (2006) for the sampler; Jasra et al. (2011) for the choice of
        β.
    """
    point = prior_draws(target, chains, generator)
    ones = torch.ones(target.dimension, dtype=torch.float64)
    log_step, beta = 0.0, 0.0
    stages = [Stage(Kernel(0.0, 1.0, ones), _deviation(point.value))]
    scale = ones
    while beta < 1:
        stride = _STRIDE / max(stages[-1].deviation, 1e-12)
        beta = min(1.0, beta + min(stride, max(beta, 1e-2)))
        weights = ((beta - stages[-1].kernel.beta) * point.value).softmax(0)
        chosen = torch.multinomial(weights, chains, replacement=True, generator=generator)
        point = ChainStates(point.z[chosen], point.value[chosen], point.slope[chosen])
        scale, steps = _scale(point, beta), []
        for repeat in range(repeats):
            kernel = Kernel(beta, math.exp(log_step), scale)
            point, acceptance = transition(target, point, kernel, leaps, generator)
            log_step += _GAIN * (float(acceptance.mean()) - _AIM)
            log_step = min(log_step, 0.5)
            if 2 * repeat >= repeats:
                steps.append(log_step)
        step = math.exp(sum(steps) / len(steps))
        stages.append(Stage(Kernel(beta, step, scale), _deviation(point.value)))
        progress(beta)
        if len(stages) > _MOST:
            raise NotConvergedError(
                f"the pilot run has reached β = {beta:.2g} after {_MOST:,} stages: the log "
                "likelihood varies too much over the prior; state a larger prior_precision"
            )
    return stages


def _scale(point: ChainStates, beta: float) -> Tensor:
    """Scales from the mean squared gradients over the chains, (P,)."""
    squares = (beta * point.slope - point.z).square()
    mean = squares.mean()
    return ((squares.sum(0) + _SHRINKAGE * mean) / (len(squares) + _SHRINKAGE)).rsqrt()


def _deviation(values: Tensor) -> float:
    finite = values[values.isfinite()]
    return float(finite.std()) if len(finite) > 1 else 0.0

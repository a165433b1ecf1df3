"""Fit models of latent functions: maximise Laplace's evidence over the hyperparameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayesgen._internal.progress import Progress
from bayesgen.covariance.gram import Gram
from bayesgen.covariance.linear import FeatureGram
from bayesgen.errors import NotConvergedError
from bayesgen.likelihoods.likelihood import Likelihood, Separable, with_noise
from bayesgen.models import latent
from bayesgen.models.hyperparameters import Free
from bayesgen.models.latent import Mode
from bayesgen.models.latent.posterior import (
    LaplaceGPPosterior,
    LaplaceLinearPosterior,
    LaplacePosterior,
    LatentSetting,
)
from bayesgen.models.search.ascent import Stop, ascend
from bayesgen.posterior.posterior import Observed

Arguments = tuple[Tensor, Tensor, Tensor | None]

# Rounding error of the evidence, in nats, above which the search rejects a value.
_UNSURE = 0.1


class LaplaceEvidence:
    """Laplace's log Z of one task as a function of (θ, log s, log σ²), with its exact gradient.

    The gradient includes the motion of the mode with the hyperparameters. Each call starts Newton's
    method at the mode of the previous call.

    Args:
        gram: prior covariance on the inputs, of unit outputscale.
        likelihood: likelihood of the targets.
        y: targets in the likelihood's inner form, (n, C).

    Source: Rasmussen & Williams (2006), section 5.5.1.
    """

    def __init__(self, gram: Gram, likelihood: Likelihood, y: Tensor) -> None:
        self.gram, self.likelihood, self.y = gram, likelihood, y
        self._starts: list[Tensor] | None = None
        self.best: tuple[float, Arguments, list[Mode]] | None = None

    def modes(self, theta: Tensor, scale: Tensor, log_noise: Tensor | None) -> list[Mode]:
        """The modes at one setting, one for each independent problem."""
        K = self.gram.matrix(theta).mul_(scale)
        return self._find(K, latent.problems(with_noise(self.likelihood, log_noise), self.y))

    def __call__(
        self, theta: Tensor, scale: Tensor, log_noise: Tensor | None
    ) -> tuple[float, np.ndarray]:
        """The value in nats and its derivatives in (θ, log s[, log σ²]).

        Raises:
            ValueError: rounding leaves the value uncertain by more than 0.1 nats.
            NotConvergedError: no mode was found.
        """
        K = self.gram.matrix(theta).mul_(scale)
        likelihood = with_noise(self.likelihood, log_noise)
        problems = latent.problems(likelihood, self.y)
        found = self._find(K, problems)
        value = sum(float(m.evidence.log_marginal_likelihood) for m in found)
        error = sum(float(m.evidence.error) for m in found)
        if error > _UNSURE:
            raise ValueError(f"rounding leaves the evidence uncertain by {error:.2g} nats")
        if self.best is None or value > self.best[0]:
            self.best = value, (theta, scale, log_noise), found
        G = found[0].covariance_gradient()
        for other in found[1:]:
            G += other.covariance_gradient()
        gradient = [*(scale * self.gram.pull(theta, G)).tolist(), float((G * K).sum())]
        if log_noise is not None:
            gradient.append(_noise_slope(K, problems, found, likelihood, log_noise))
        return value, np.array(gradient)

    def _find(self, K: Tensor, problems: list[latent.LatentProblem]) -> list[Mode]:
        n, C = self.y.shape
        starts = self._starts or [K.new_zeros(n, C // len(problems)) for _ in problems]
        found = [latent.find(K, p, a) for p, a in zip(problems, starts, strict=True)]
        self._starts = [m.a for m in found]
        return found


def _noise_slope(
    K: Tensor,
    problems: list[latent.LatentProblem],
    found: list[Mode],
    likelihood: Likelihood,
    log_noise: Tensor,
) -> float:
    """Derivative of log Z in log σ².

    Its three terms are the derivative of the log density, that of W in the determinant, and that
    through the motion of the mode.
    """
    assert isinstance(likelihood, Separable)
    total = 0.0
    for problem, m in zip(problems, found, strict=True):
        assert isinstance(problem, latent.SeparableProblem)
        with torch.enable_grad():
            free = log_noise.detach().clone().requires_grad_()
            own = with_noise(likelihood, free)
            assert isinstance(own, Separable)
            f = m.f.detach().requires_grad_()
            value = own.element(problem.y, f)
            (first,) = torch.autograd.grad(value.sum(), f, create_graph=True)
            (second,) = torch.autograd.grad(first.sum(), f, create_graph=True)
            answer = (
                value.sum()
                + 0.5 * (m.curvature.variance()[:, None] * second).sum()
                + (m.mode_weights(K) * first).sum()
            )
            (slope,) = torch.autograd.grad(answer, free)
        total += float(slope)
    return total


def best(
    grams: Sequence[Gram],
    likelihood: Likelihood,
    y: Any,
    *,
    scale: float,
    free: Free,
    thetas: Sequence[Tensor] = (),
    progress: Progress | None = None,
) -> LaplacePosterior:
    """The posterior with the largest Laplace evidence over some prior covariances, for each task.

    Args:
        grams: the candidate prior covariances, on the same inputs.
        likelihood: likelihood of the targets.
        y: targets as the user passed them.
        scale: outputscale to keep or to start from.
        free: hyperparameters to learn.
        thetas: further kernel parameters to start from, besides each Gram's own.
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
    settings, modes = [], []
    for task in inner:
        candidates = []
        for gram in grams:
            starts = [gram.start(), *(thetas if free.kernel else ())]
            candidates += [_ascend_from(gram, likelihood, task, t, scale, free) for t in starts]
        reached = [c for c in candidates if not isinstance(c, NotConvergedError)]
        if not reached:
            failed = candidates[0]
            assert isinstance(failed, NotConvergedError)
            raise failed
        setting, found = max(reached, key=_log_evidence)
        settings.append(setting)
        modes.append(found)
        if progress is not None:
            progress(len(modes), len(inner), f"task {len(modes)} of {len(inner)}")
    kind = LaplaceLinearPosterior if isinstance(grams[0], FeatureGram) else LaplaceGPPosterior
    return kind(observed, likelihood, settings, modes, free.names())


Found = tuple[LatentSetting, list[Mode]]


def _log_evidence(found: Found) -> float:
    return sum(float(m.evidence.log_marginal_likelihood) for m in found[1])


def _ascend_from(
    gram: Gram, likelihood: Likelihood, y: Tensor, theta: Tensor, scale: float, free: Free
) -> Found | NotConvergedError:
    """The best setting near one start with its modes, or the error where no mode was found."""
    objective = LaplaceEvidence(gram, likelihood, y)
    noise, p = likelihood.log_noise, len(theta)
    start = np.array([*theta.tolist(), np.log(scale), *([] if noise is None else [float(noise)])])
    flags = np.array([free.kernel] * p + [free.scale] + [free.noise] * (noise is not None))
    high = np.array([np.inf] * p + [18.0] * (len(start) - p))

    def split(values: np.ndarray) -> Arguments:
        log_noise = None if noise is None else y.new_tensor(values[p + 1])
        return y.new_tensor(values[:p]), y.new_tensor(values[p]).exp(), log_noise

    try:
        ascend(lambda v: objective(*split(v)), start, flags, -high, high, stop=Stop(evaluations=200))
        if objective.best is not None:
            _, at, found = objective.best
            return LatentSetting(gram, *at), found
        at = split(start)  # nothing is learnt, or every value of the search was rejected
        return LatentSetting(gram, *at), objective.modes(*at)
    except NotConvergedError as err:
        return err

"""Laplace's log marginal likelihood as a function of the hyperparameters, with its gradient."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bayesgen.covariance.gram import Gram
from bayesgen.errors import NotConvergedError
from bayesgen.likelihoods.likelihood import Likelihood, Separable, with_noise
from bayesgen.models import latent
from bayesgen.models.latent import Mode
from bayesgen.models.latent.newton import LEAST_DEFINITE

# Rounding error of the evidence, in nats, above which the search rejects a value.
_UNSURE = 0.1


class Start(NamedTuple):
    """A mode from which Newton's method may start under another covariance.

    Attributes:
        f: the mode, (n, C).
        a: K⁻¹f under its own covariance, (n, C).
    """

    f: Tensor
    a: Tensor


class LaplaceEvidence:
    """Laplace's log Z of one task as a function of (θ, log s, log σ²), with its exact gradient.

    The gradient includes the motion of the mode with the hyperparameters. Each call starts Newton's
    method at the mode of the previous call, so that the value follows one mode; the first call and
    `modes` start from several points.

    Args:
        gram: prior covariance on the inputs, of unit outputscale.
        likelihood: likelihood of the targets.
        y: targets in the likelihood's inner form, (n, C).

    Source: Rasmussen & Williams (2006), section 5.5.1.
    """

    def __init__(self, gram: Gram, likelihood: Likelihood, y: Tensor) -> None:
        self.gram, self.likelihood, self.y = gram, likelihood, y
        self._starts: list[Start] | None = None

    @property
    def last(self) -> list[Start]:
        """The modes that the last evaluation found."""
        assert self._starts is not None
        return self._starts

    def start_from(self, modes: list[Start] | None) -> None:
        """Let the next call start Newton's method from these modes, or from all starts."""
        self._starts = modes

    def modes(
        self, theta: Tensor, scale: Tensor, log_noise: Tensor | None
    ) -> tuple[list[Mode], int]:
        """The best modes at one setting, one for each independent problem.

        Returns:
            The modes, and the largest number of different modes that a problem was seen to have.
        """
        K = self.gram.matrix(theta).mul_(scale)
        own = self._starts
        self._starts = None
        problems = latent.problems(with_noise(self.likelihood, log_noise), self.y)
        return self._find(K, problems, own)

    def __call__(
        self, theta: Tensor, scale: Tensor, log_noise: Tensor | None
    ) -> tuple[float, np.ndarray]:
        """The value in nats and its derivatives in (θ, log s[, log σ²]).

        Raises:
            ValueError: rounding leaves the value uncertain by more than 0.1 nats, or the mode is
                about to disappear; see `LatentCurvature.definiteness`.
            NotConvergedError: no mode was found.
        """
        K, likelihood, problems, found = self._at(theta, scale, log_noise)
        value = _checked(found)
        G = found[0].covariance_gradient()
        for other in found[1:]:
            G += other.covariance_gradient()
        gradient = [*(scale * self.gram.pull(theta, G)).tolist(), float((G * K).sum())]
        if log_noise is not None:
            gradient.append(_noise_slope(K, problems, found, likelihood, log_noise))
        return value, np.array(gradient)

    def value(self, theta: Tensor, scale: Tensor, log_noise: Tensor | None) -> float:
        """The value alone, in nats; see `__call__` for the errors."""
        return _checked(self._at(theta, scale, log_noise)[3])

    def _at(
        self, theta: Tensor, scale: Tensor, log_noise: Tensor | None
    ) -> tuple[Tensor, Likelihood, list[latent.LatentProblem], list[Mode]]:
        """The prior covariance, the likelihood, the problems and their modes at one setting."""
        K = self.gram.matrix(theta).mul_(scale)
        likelihood = with_noise(self.likelihood, log_noise)
        problems = latent.problems(likelihood, self.y)
        return K, likelihood, problems, self._find(K, problems)[0]

    def _find(
        self,
        K: Tensor,
        problems: list[latent.LatentProblem],
        more: list[Start] | None = None,
    ) -> tuple[list[Mode], int]:
        """The modes near the last ones, or else the best from all starts and `more` modes."""
        found, most = [], 1
        for k, problem in enumerate(problems):
            mode = None
            if self._starts is not None:
                with contextlib.suppress(NotConvergedError):
                    own = problem.restart(K, *self._starts[k])
                    near = [own, torch.zeros_like(own)]
                    mode = latent.find(K, problem, latent.promising(K, problem, near))
            if mode is None:
                starts = problem.starts(K)
                if more is not None:
                    starts.append(problem.restart(K, *more[k]))
                mode, count = latent.best(K, problem, starts)
                most = max(most, count)
            found.append(mode)
        self._starts = [Start(m.f, m.a) for m in found]
        return found, most


def _checked(found: list[Mode]) -> float:
    """The summed log Z of independent problems in nats, if it has a meaning.

    Raises:
        ValueError: rounding leaves it uncertain, or a mode is about to disappear.
    """
    if min(m.curvature.definiteness() for m in found) < LEAST_DEFINITE:
        raise ValueError("the mode is about to disappear in a saddle point of the posterior")
    error = sum(float(m.evidence.error) for m in found)
    if error > _UNSURE:
        raise ValueError(f"rounding leaves the evidence uncertain by {error:.2g} nats")
    return sum(float(m.evidence.log_marginal_likelihood) for m in found)


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

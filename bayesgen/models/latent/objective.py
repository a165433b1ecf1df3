"""Laplace's log marginal likelihood as a function of the hyperparameters, with its gradient."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bayesgen.covariance.gram import Gram
from bayesgen.likelihoods.likelihood import Likelihood, Separable, with_noise
from bayesgen.models import latent
from bayesgen.models.latent import Mode

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

    @property
    def last(self) -> list[Tensor]:
        """The solutions a = K⁻¹f at the last modes."""
        assert self._starts is not None
        return self._starts

    def start_from(self, solutions: list[Tensor]) -> None:
        """Let the next call start Newton's method from these solutions."""
        self._starts = solutions

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

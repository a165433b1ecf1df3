"""Optimise the mean of a Gaussian Q directly for the bound.

The mean of a posterior minimises a penalised squared error. Any other function in the span of the
data is also a valid mean of Q. With f = U diag(sλ)^½ A at the sample, for whitened coefficients A,

    KL(Q ‖ P) = ½ [(C − 1) Σ (qᵢ − 1 − log qᵢ) + ‖A‖²],  qᵢ = ρ/(λᵢ + ρ),

and the bound is minimised over A and ρ with its exact gradient. Source: Dziugaite & Roy (2017) for
the optimisation of a PAC-Bayes bound, with the kernel's eigenbasis in place of network weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayesgen.evidence import Evidence
from bayesgen.pacbayes.certificates.assemble import certificate
from bayesgen.pacbayes.certificates.certificate import Certificate
from bayesgen.pacbayes.certificates.losses import Loss
from bayesgen.pacbayes.certificates.request import CertificateTerms
from bayesgen.pacbayes.certificates.tuning import TunedSetting, TuningProblem
from bayesgen.solvers.quadrature import SquaredProduct


@dataclass(frozen=True)
class Sharpened:
    """The optimised distribution Q, by its marginals and divergence.

    Attributes:
        mean, variance: marginals at the sample, (n, C) and (n, 1).
        complexity: KL(Q ‖ P), nats, ().
        weights: α of the mean offset + Kα at the sample, (n, C), including the outputscale.
        ratio: ρ of the covariance of Q.
    """

    mean: Tensor
    variance: Tensor
    complexity: Tensor
    weights: Tensor
    ratio: float


class _Family:
    """Means and covariances of Q, whitened by the prior."""

    def __init__(self, problem: TuningProblem, scale: float) -> None:
        spectrum = problem.spectrum
        assert spectrum.vectors is not None
        self.problem, self.vectors = problem, spectrum.vectors
        self.values = spectrum.density.nodes[: self.vectors.shape[1]]
        self.root, self.scale = (scale * self.values.clamp(min=0)).sqrt(), scale
        self.outputs = problem.contrasts.shape[1]

    def start(self, setting: TunedSetting) -> Tensor:
        """Whitened coefficients A of the posterior at a setting, (m, C − 1)."""
        assert self.problem.spectrum.projections is not None
        inverse = 1 / (self.scale * self.values + setting.noise)
        return (self.root * inverse)[:, None] * self.problem.spectrum.projections[0]

    def at(self, A: Tensor, log_ratio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean (n, C), variance (n, 1) and KL () of Q at A and log ρ."""
        # In logarithms, so that no ratio that a line search tries gives an infinite KL.
        log_q = log_ratio - torch.logaddexp(self.values.clamp(min=0).log(), log_ratio)
        q = log_q.exp()
        mean = self.vectors @ (self.root[:, None] * A) @ self.problem.contrasts.mT
        variance = SquaredProduct.apply(self.vectors, (self.root.square() * q)[:, None])
        spread = self.outputs * (q - 1 - log_q).sum()
        return self.problem.offset + mean, variance, 0.5 * (spread + A.square().sum())


def sharpen(problem: TuningProblem, start: TunedSetting, steps: int = 80) -> Sharpened:
    """Minimise the bound over the mean and the ratio ρ of Q's covariance, by L-BFGS.

    Args:
        problem: prior, task, loss and theorem.
        start: setting of the posterior to start from; the result is never worse.
        steps: largest number of evaluations.
    """
    from scipy.optimize import minimize

    family = _Family(problem, start.scale)
    A = family.start(start)
    first = np.append(A.reshape(-1).cpu().numpy(), math.log(start.noise / start.scale))
    best, lowest = first, math.inf

    def objective(point: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal best, lowest
        vector = torch.from_numpy(point).to(A).requires_grad_()
        mean, variance, kl = family.at(vector[:-1].reshape(A.shape), vector[-1])
        risk = problem.loss.expected(mean, variance).mean().clamp(0, 1)
        value = problem.theorem(risk, kl.clamp(min=0))
        value.backward()
        if float(value.detach()) < lowest:
            best, lowest = point.copy(), float(value.detach())
        assert vector.grad is not None
        # Changes of the bound are small; without the factor L-BFGS would stop too early.
        return 1e3 * float(value.detach()), 1e3 * vector.grad.cpu().numpy().astype(np.float64)

    options = {"maxfun": steps, "maxiter": steps, "ftol": 1e-9}
    minimize(objective, first, jac=True, method="L-BFGS-B", options=options)
    vector = torch.from_numpy(best).to(A)
    A, log_ratio = vector[:-1].reshape(A.shape), vector[-1]
    mean, variance, kl = family.at(A, log_ratio)
    inverse = torch.where(family.values > 0, family.root / family.values.clamp(min=1e-300), 0.0)
    weights = family.vectors @ (inverse[:, None] * A) @ problem.contrasts.mT
    return Sharpened(mean, variance, kl, weights, float(log_ratio.exp()))


def certified(
    problem: TuningProblem,
    start: TunedSetting,
    full: Loss,
    asked: CertificateTerms,
    predictor: Callable[[Tensor], Any],
    notes: tuple[str, ...] = (),
) -> Certificate:
    """The certificate of the Q whose mean is optimised for the bound.

    Args:
        problem: prior, task, loss with few quadrature nodes, and theorem.
        start: setting of the posterior to start from.
        full: the loss with all quadrature nodes.
        asked: the terms of the certificate.
        predictor: function of the weights α of the mean → the certified predictor.
        notes: further remarks for the reader.
    """
    found, spectrum = sharpen(problem, start), problem.spectrum
    kl = found.complexity
    error = spectrum.evidence(start.scale, start.noise).error.max()
    return certificate(
        found.mean,
        found.variance,
        Evidence(-kl, kl, spectrum.n, torch.zeros_like(kl), error=error),
        full,
        asked,
        # The covariance of Q is that of a posterior with this noise.
        settings={"scale": start.scale, "noise": found.ratio * start.scale},
        free="Q's mean affects only Q, so fitting it to this bound adds nothing to the bound.",
        posterior=predictor(found.weights),
        notes=notes,
    )

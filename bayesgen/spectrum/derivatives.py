"""Gradient and Hessian of the evidence in outputscale and noise variance."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bayesgen.solvers.quadrature import Measure
from bayesgen.spectrum.evidence import log_marginal_likelihood
from bayesgen.spectrum.measures import SpectralMeasures


class EvidenceDerivatives(NamedTuple):
    """Log marginal likelihood with its derivatives in (log s, log σ²).

    Attributes:
        value: log marginal likelihood, (...), nats.
        gradient: (..., 2).
        hessian: (..., 2, 2).
    """

    value: Tensor
    gradient: Tensor
    hessian: Tensor


def derivatives(spectrum: SpectralMeasures, scale: Tensor, noise: Tensor) -> EvidenceDerivatives:
    """Compute `Spectrum.derivatives`; scale and noise have a trailing axis for the nodes."""
    value = log_marginal_likelihood(spectrum, scale, noise)
    return EvidenceDerivatives(value, *slopes_and_bends(spectrum, scale, noise))


def slopes_and_bends(
    spectrum: SpectralMeasures, scale: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradient (..., 2) and Hessian (..., 2, 2) of `derivatives`, without the value."""
    outputs = spectrum.outputs
    t = _moments(spectrum.target_measure(), scale, noise, 1)
    c = _moments(spectrum.density, scale, noise, 0)
    # Integrals over the density have no batch axis where (s, σ²) have none.
    first = [0.5 * (t[j] - outputs * c[j]) for j in range(2)]
    second = [0.5 * (2 * t[j] - outputs * c[j]) for j in range(2, 5)]
    rows = (first[0] - second[0], -second[1], -second[1], first[1] - second[2])
    hessian = torch.stack(rows, -1)
    return torch.stack(first, -1), hessian.reshape(*hessian.shape[:-1], 2, 2)


def _moments(measure: Measure, scale: Tensor, noise: Tensor, power: int) -> Tensor:
    """Integrals of (a, b, a², ab, b²)/dᵖ with d = sλ + σ², a = sλ/d and b = σ²/d, (5, ...)."""
    signal = scale * measure.nodes
    total = signal + noise
    a, b = signal / total, noise / total
    weights = measure.weights / total**power
    return torch.stack([(weights * p).sum(-1) for p in (a, b, a * a, a * b, b * b)])

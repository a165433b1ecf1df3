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

    def shares(nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        total = scale * nodes + noise
        return scale * nodes / total, noise / total, 1 / total

    def moments(measure: Measure, power: int) -> list[Tensor]:
        signal, rest, inverse = shares(measure.nodes)
        weights = measure.weights * inverse**power
        powers = (signal, rest, signal * signal, signal * rest, rest * rest)
        return [(weights * p).sum(-1) for p in powers]

    t = moments(spectrum.target_measure(), 1)
    c = moments(spectrum.density, 0)
    outputs = spectrum.outputs
    value = log_marginal_likelihood(spectrum, scale, noise)
    first = [0.5 * (t[j] - outputs * c[j]) for j in range(2)]
    second = [0.5 * (2 * t[j] - outputs * c[j]) for j in range(2, 5)]
    gradient = torch.stack(first, -1)
    hessian = torch.stack(
        [
            torch.stack([first[0] - second[0], -second[1]], -1),
            torch.stack([-second[1], first[1] - second[2]], -1),
        ],
        -2,
    )
    return EvidenceDerivatives(value, gradient, hessian)

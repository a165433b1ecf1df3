"""What Laplace's approximation asks of a curvature H: log-determinants, effective
parameters, covariances, draws.

The prior precision is diag(α), α = base · precision[group]: one number for each group of weights. A
curvature answers for every value of those numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bayesgen.curvature.parameters import Weights
from bayesgen.spectrum.spectrum import Spectrum


class CurvatureTerms(NamedTuple):
    """What the evidence needs of H at one prior precision.

    Attributes:
        logdet: log |I + S^½HS^½| with S = diag(α)⁻¹, ().
        effective_parameters: tr H(H + diag α)⁻¹ over the weights of each group, (G,); they sum to
            N_eff.
        error: of logdet, in nats: rounding, or a standard error, ().
    """

    logdet: Tensor
    effective_parameters: Tensor
    error: Tensor


@dataclass(frozen=True)
class PriorShape:
    """How prior precisions are laid over the weights.

    Attributes:
        base: relative precision of each weight, (P,).
        group: the group of each weight, (P,), int64.
        count: G.
    """

    base: Tensor
    group: Tensor
    count: int

    def precision(self, values: Tensor) -> Tensor:
        """α of each weight, (P,), from one number a group, (G,)."""
        return self.base * values.to(self.base)[self.group]

    def sums(self, values: Tensor) -> Tensor:
        """Σ over the weights of each group, (G,), of values (P,)."""
        return values.new_zeros(self.count).index_add_(0, self.group, values)


class Curvature(ABC):
    """H, the negative Hessian of log p(D | θ) in θ, or what stands for it.

    Attributes:
        weights: of the network.
        prior: the layout of the prior precisions.
        method: how it was computed, in words.
        spectrum: of S^½HS^½ at S = diag(base)⁻¹, where there is one group and its precision is
            learnt; else None.
        negative: eigenvalues below zero that were found.
    """

    weights: Weights
    prior: PriorShape
    method: str
    spectrum: Spectrum | None = None
    negative: int = 0

    @abstractmethod
    def terms(self, precision: Tensor) -> CurvatureTerms:
        """Log-determinant and effective parameters at prior precisions (G,)."""

    @abstractmethod
    def covariance(self, x: Tensor, precision: Tensor) -> Tensor:
        """J(H + diag α)⁻¹Jᵀ of the outputs at each new input, (m, C, C)."""

    @abstractmethod
    def draw(self, count: int, precision: Tensor, generator: torch.Generator) -> Tensor:
        """Draws of N(0, (H + diag α)⁻¹), (count, P)."""

    @abstractmethod
    def gain(self, gradient: Tensor, precision: Tensor) -> float:
        """½ gᵀ(H + diag α)⁻¹g, (P,): what a Newton step gains, or a bound on it from above."""

    def least_gain(self, gradient: Tensor, precision: Tensor) -> float:
        """The gain or a bound on it from below, whichever takes less."""
        return self.gain(gradient, precision)


def spectral_terms(spectrum: Spectrum, precision: Tensor) -> CurvatureTerms:
    """`CurvatureTerms` of one group from the spectrum of its curvature."""
    scale = 1 / precision[0]
    logdet = spectrum.logdet(scale, 1.0)
    rounding = spectrum.rounding
    nodes = spectrum.density
    trace = nodes.integrate(lambda v: scale / (scale * v + 1))
    spread = nodes.integrate(lambda v: scale * v.clamp(min=0).sqrt() / (scale * v + 1))
    inverse = nodes.integrate(lambda v: (scale * v + 1) ** -2).sqrt()
    error = rounding.matrix * trace + 2 * rounding.root * spread
    error = error + scale * rounding.entries * inverse
    error = error + spectrum.sampling_error(lambda v: (scale * v).log1p())
    return CurvatureTerms(logdet, spectrum.effective_dimension(precision[:1]), error)


def standard_normal(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Draws on the CPU, whatever the device, so that a seed means the same everywhere."""
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(like)

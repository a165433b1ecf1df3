"""The interface of a curvature H for the Laplace approximation.

A curvature gives log-determinants, effective parameters, predictive covariances and draws. The
prior precision is diag(α) with α = base · precision[group], one precision for each group of
weights. A curvature answers for every value of these precisions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bayesgen.curvature.parameters import Weights
from bayesgen.spectrum.spectrum import Spectrum
from bayesgen.verify import Check


class CurvatureTerms(NamedTuple):
    """Quantities of H that the evidence needs, at one prior precision.

    Attributes:
        logdet: log|I + S^½HS^½| with S = diag(α)⁻¹, ().
        effective_parameters: tr H(H + diag α)⁻¹ over the weights of each group, (G,); they sum to
            N_eff.
        error: error of logdet from rounding or sampling, (), nats.
    """

    logdet: Tensor
    effective_parameters: Tensor
    error: Tensor


@dataclass(frozen=True)
class PriorShape:
    """How the prior precisions of groups apply to the single weights.

    Attributes:
        base: relative precision of each weight, (P,).
        group: the group of each weight, (P,), int64.
        count: G, the number of groups.
    """

    base: Tensor
    group: Tensor
    count: int

    def precision(self, values: Tensor) -> Tensor:
        """Precision α of each weight, (P,), from one value for each group, (G,)."""
        return self.base * values.to(self.base)[self.group]

    def sums(self, values: Tensor) -> Tensor:
        """Sum of values (P,) over the weights of each group, (G,)."""
        return values.new_zeros(self.count).index_add_(0, self.group, values)


class Curvature(ABC):
    """The negative Hessian H of log p(D | θ) in θ, or an approximation of it.

    Attributes:
        weights: weights of the network.
        prior: layout of the prior precisions.
        method: description of how H was computed.
        spectrum: spectrum of S^½HS^½ at S = diag(base)⁻¹ where there is one group and its precision
            is learnt; else None.
        negative: number of negative eigenvalues found.
        checks: comparisons of fast computations with direct ones.
    """

    weights: Weights
    prior: PriorShape
    method: str
    spectrum: Spectrum | None = None
    negative: int = 0
    checks: tuple[Check, ...] = ()

    @abstractmethod
    def terms(self, precision: Tensor) -> CurvatureTerms:
        """Log-determinant and effective parameters at prior precisions (G,)."""

    @abstractmethod
    def covariance(self, x: Any, precision: Tensor) -> Tensor:
        """Covariance J(H + diag α)⁻¹Jᵀ of the outputs at each new input, (m, C, C)."""

    @abstractmethod
    def draw(self, count: int, precision: Tensor, generator: torch.Generator) -> Tensor:
        """Draws of N(0, (H + diag α)⁻¹), (count, P)."""

    @abstractmethod
    def gain(self, gradient: Tensor, precision: Tensor) -> float:
        """Gain ½ gᵀ(H + diag α)⁻¹g of a Newton step from gradient g, (P,), or an upper bound."""

    def least_gain(self, gradient: Tensor, precision: Tensor) -> float:
        """The gain or a lower bound of it, whichever is cheaper to compute."""
        return self.gain(gradient, precision)


def spectral_terms(spectrum: Spectrum, precision: Tensor) -> CurvatureTerms:
    """`CurvatureTerms` of a single group, from the spectrum of its curvature."""
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
    """Standard normal draws, made on the CPU so that a seed gives the same on every device."""
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(like)

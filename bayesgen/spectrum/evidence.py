"""The Evidence of Gaussian targets and its error, computed from spectral measures."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from bayesgen.evidence import EvidenceParts
from bayesgen.solvers.eigen import logdet_factor
from bayesgen.spectrum.measures import SpectralMeasures
from bayesgen.spectrum.quadrature_bracket import shift


def gaussian_evidence(spectrum: SpectralMeasures, scale: Tensor, noise: Tensor) -> EvidenceParts:
    """Compute `Spectrum.evidence`.

    Args:
        spectrum: spectral measures with targets.
        scale, noise: outputscale and noise variance, each with a trailing axis for the nodes.
    """
    density, targets, outputs = spectrum.density, spectrum.target_measure(), spectrum.outputs
    dof = outputs * density.integrate(lambda v: scale * v / (scale * v + noise))
    total = scale * targets.nodes + noise
    shares, loads = noise / total, targets.weights / total
    # σ²αᵀα and the squared norm in the RKHS; squares of sλ + σ² may leave the range of the dtype.
    residual = (loads * shares).sum(-1)
    prior_norm = (loads * (scale * targets.nodes / total)).sum(-1)
    log_ratio = density.integrate(lambda v: (scale * v / noise).log1p())
    # Corrections from the middle of each bracket to the extrapolated value; 0 without brackets.
    pull = _of_targets(spectrum, lambda v: 1 / (scale * v + noise))
    bend = _of_density(spectrum, lambda v: (scale * v / noise).log1p())
    error = logdet_error(spectrum, scale, noise) + _quadratic_error(
        spectrum, scale, noise, residual, prior_norm
    )
    noise = noise[..., 0]
    constant = spectrum.n * outputs * (2 * math.pi * noise).log()
    terms = constant.abs() + residual + 2 * dof + outputs * log_ratio + prior_norm
    error = error + torch.finfo(terms.dtype).eps * terms
    fit = -0.5 * (constant + residual + dof)
    complexity = 0.5 * (outputs * log_ratio - dof + prior_norm)
    # The complexity is a KL divergence. What the correction, or an inaccurate density, would take
    # beyond zero is moved to the fit, and shows an error of that size.
    least = torch.zeros_like(complexity)
    error = error + torch.maximum(-complexity.detach(), least)
    divergence = torch.maximum(complexity + 0.5 * outputs * bend, least)
    fit = fit - 0.5 * (pull + outputs * bend) + (divergence - complexity)
    return EvidenceParts(
        fit, divergence, dof, error.detach(), torch.zeros_like(fit), spectrum.n, spectrum.method
    )


def quadratic(spectrum: SpectralMeasures, scale: Tensor, noise: Tensor) -> Tensor:
    """The quadratic form yᵀA⁻¹y with A = sK + σ²I.

    Where Gauss and Gauss–Radau rules bracket the form, `bayesgen.spectrum.quadrature_bracket`
    determines which value between the two is returned.

    Args:
        spectrum: spectral measures with targets.
        scale, noise: outputscale and noise variance, each with a trailing axis for the nodes.
    """

    def inverse(v: Tensor) -> Tensor:
        return 1 / (scale * v + noise)

    return spectrum.target_measure().integrate(inverse) + _of_targets(spectrum, inverse)


def logdet(spectrum: SpectralMeasures, scale: Tensor, noise: Tensor) -> Tensor:
    """The log-determinant log|A| with A = sK + σ²I; see `quadratic` for brackets and arguments."""

    def log(v: Tensor) -> Tensor:
        return (scale * v + noise).log()

    return spectrum.density.integrate(log) + _of_density(spectrum, log)


def log_marginal_likelihood(spectrum: SpectralMeasures, scale: Tensor, noise: Tensor) -> Tensor:
    """The log density log N(y; 0, A) with A = sK + σ²I, summed over the outputs, in nats.

    Args:
        spectrum: spectral measures with targets.
        scale, noise: outputscale and noise variance, each with a trailing axis for the nodes.
    """
    constant = spectrum.n * math.log(2 * math.pi)
    determinant = logdet(spectrum, scale, noise) + constant
    return -0.5 * (quadratic(spectrum, scale, noise) + spectrum.outputs * determinant)


def _of_targets(spectrum: SpectralMeasures, function: Callable[[Tensor], Tensor]) -> Tensor | float:
    return shift(spectrum.target_measure(), spectrum.upper, spectrum.targets_bracket, function)


def _of_density(spectrum: SpectralMeasures, function: Callable[[Tensor], Tensor]) -> Tensor | float:
    return shift(spectrum.density, spectrum.radau, spectrum.density_bracket, function)


def logdet_error(spectrum: SpectralMeasures, scale: Tensor, noise: Tensor) -> Tensor:
    """Error of the evidence, in nats, that comes from its log-determinants, with A = sK + σ²I.

    It is the sum of four parts: the standard error over the probes (enlarged where they are few),
    the rounding of the known moments, the width of the bracket of the Gauss and Gauss–Radau rules,
    and the effect of δK. For independent entries of δK the last part uses
    |tr A⁻¹δK| ≤ ‖A⁻¹‖_F ‖δK‖_F.

    Args:
        spectrum: spectral measures.
        scale, noise: outputscale and noise variance, each with a trailing axis for the nodes.
    """
    rounding, half = spectrum.rounding, 0.5 * spectrum.outputs
    one, two = scale[..., None], noise[..., None]  # axes: probes or moments, nodes

    def log(v: Tensor) -> Tensor:
        return (one * v + two).clamp(min=1e-300).log()

    error = torch.zeros_like(scale[..., 0])
    if spectrum.probes is not None:
        each = spectrum.probes.integrate(log)
        error = error + half * _student(each.shape[-1]) * each.std(-1) / each.shape[-1] ** 0.5
    if spectrum.doubt is not None:
        error = error + half * spectrum.doubt.integrate(log).abs().sum(-1)
    if spectrum.radau is not None:
        ends = [
            measure.integrate(lambda v: (scale * v + noise).clamp(min=1e-300).log())
            for measure in (spectrum.density, spectrum.radau)
        ]
        error = error + half * (ends[0] - ends[1]).abs()
    density, ratio = spectrum.density, scale / noise
    inverse = 1 / (ratio * density.nodes + 1)  # σ²/(sλ + σ²)
    relative = torch.zeros_like(error)
    if rounding.matrix:
        t = ratio[..., 0] * rounding.matrix
        trace = (density.weights * inverse).sum(-1)
        relative = relative + rounding.matrix * trace * logdet_factor(t)
    if rounding.root:
        spread = (density.weights * density.nodes.clamp(min=0).sqrt() * inverse).sum(-1)
        relative = relative + 2 * rounding.root * spread
    if rounding.entries:
        squares = (density.weights * inverse.square()).sum(-1)
        relative = relative + rounding.entries * squares.clamp(min=0).sqrt()
    return error + half * ratio[..., 0] * relative


@cache
def _student(probes: int) -> float:
    """Factor by which a standard error from a few probes is enlarged.

    Three of the enlarged errors cover the truth as often as three standard deviations of a normal
    distribution do, by Student's t distribution. The calibration on three moments uses up two
    further degrees of freedom.
    """
    from scipy import special

    freedom = max(probes - 3, 2)
    quantile = float(special.stdtrit(freedom, special.ndtr(3.0)))
    return quantile / 3 * max(1.0, (probes - 1) / freedom) ** 0.5


def _quadratic_error(
    spectrum: SpectralMeasures,
    scale: Tensor,
    noise: Tensor,
    residual: Tensor,
    prior_norm: Tensor,
) -> Tensor:
    """Error of the evidence, in nats, that comes from yᵀA⁻¹y.

    It is the sum of the width of the bracket of the Gauss and Gauss–Radau rules, the effect αᵀδKα
    of rounding in K, and the rounding of the targets.

    Args:
        spectrum: spectral measures.
        scale, noise: outputscale and noise variance, each with a trailing axis for the nodes.
        residual: σ²αᵀα.
        prior_norm: squared norm of the posterior mean in the RKHS, αᵀsKα.
    """
    rounding = spectrum.rounding
    error = torch.zeros_like(residual)
    if spectrum.upper is not None:
        low, high = (
            measure.integrate(lambda v: 1 / (scale * v + noise))
            for measure in (spectrum.target_measure(), spectrum.upper)
        )
        error = error + 0.5 * (high - low).clamp(min=0)
    ratio = (scale / noise)[..., 0]
    if rounding.matrix:
        t = ratio * rounding.matrix
        error = error + 0.5 * t * (1 + t) * residual
    if rounding.entries:
        error = error + ratio * rounding.entries / spectrum.n**0.5 * residual
    if rounding.root:
        error = error + (ratio * residual * prior_norm).sqrt() * rounding.root
    if spectrum.y is not None:  # rounding of the targets to their dtype
        error = error + 0.5 * torch.finfo(spectrum.y.dtype).eps * (residual + prior_norm)
    return error

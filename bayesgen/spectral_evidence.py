"""The Evidence of Gaussian targets, part by part, from spectral measures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bayesgen.evidence import Evidence

if TYPE_CHECKING:
    from bayesgen.spectrum import Spectrum


def gaussian_evidence(spectrum: Spectrum, scale: Tensor, noise: Tensor) -> Evidence:
    """See `Spectrum.evidence`.

    Args:
        spectrum: with targets.
        scale, noise: each with a trailing axis for the nodes.
    """
    density, targets, outputs = spectrum.density, spectrum.loaded(), spectrum.outputs
    dof = outputs * density.integrate(lambda v: scale * v / (scale * v + noise))
    alpha_square = targets.integrate(lambda v: (scale * v + noise) ** -2)
    prior_norm = targets.integrate(lambda v: scale * v / (scale * v + noise) ** 2)
    log_ratio = density.integrate(lambda v: (scale * v / noise).log1p())
    trace = density.integrate(lambda v: 1 / (scale * v + noise))
    spread = density.integrate(lambda v: v.clamp(min=0).sqrt() / (scale * v + noise))
    inverse = density.integrate(lambda v: (scale * v + noise) ** -2).sqrt()
    error = _sampling(spectrum, scale, noise)
    scale, noise = scale[..., 0], noise[..., 0]
    fit = -0.5 * (spectrum.n * outputs * (2 * math.pi * noise).log() + noise * alpha_square + dof)
    complexity = 0.5 * (outputs * log_ratio - dof + prior_norm)
    rounding = spectrum.rounding
    error = error + 0.5 * scale * rounding.matrix * (outputs * trace + alpha_square)
    pull = (alpha_square * prior_norm / scale).sqrt()
    error = error + scale * rounding.root * (outputs * spread + pull)
    # |tr A⁻¹δK| ≤ ‖A⁻¹‖_F ‖δK‖_F, and |αᵀδKα| ≤ ‖α‖² ‖δK‖.
    wide, long = outputs * inverse, 2 * alpha_square / spectrum.n**0.5
    error = error + 0.5 * scale * rounding.entries * (wide + long)
    if spectrum.y is not None:  # the targets too were rounded, to their own dtype
        quadratic = noise * alpha_square + prior_norm
        error = error + 0.5 * torch.finfo(spectrum.y.dtype).eps * quadratic
    return Evidence(fit, complexity, spectrum.n, dof, error=error.detach(), method=spectrum.method)


def _sampling(spectrum: Spectrum, scale: Tensor, noise: Tensor) -> Tensor:
    """Standard error of the log-determinant, and the bracket of the quadratic form; halves."""
    error = torch.zeros_like(scale[..., 0])
    one, two = scale[..., None], noise[..., None]  # probes or moments, nodes
    if spectrum.probes is not None:
        each = spectrum.probes.integrate(lambda v: (one * v + two).clamp(min=1e-300).log())
        error = error + 0.5 * spectrum.outputs * each.std(-1) / each.shape[-1] ** 0.5
    if spectrum.doubt is not None:
        each = spectrum.doubt.integrate(lambda v: (one * v + two).clamp(min=1e-300).log())
        error = error + 0.5 * spectrum.outputs * each.abs().sum(-1)
    if spectrum.radau is not None:
        ends = [
            measure.integrate(lambda v: (scale * v + noise).clamp(min=1e-300).log())
            for measure in (spectrum.density, spectrum.radau)
        ]
        error = error + 0.5 * spectrum.outputs * (ends[0] - ends[1]).abs()
    if spectrum.upper is not None:
        low, high = (
            measure.integrate(lambda v: 1 / (scale * v + noise))
            for measure in (spectrum.loaded(), spectrum.upper)
        )
        error = error + 0.5 * (high - low).clamp(min=0)
    return error

"""Maximise the evidence over outputscale and noise variance, for every task of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from bayesgen.evidence import Evidence, EvidenceParts
from bayesgen.solvers.quadrature import Measure
from bayesgen.spectrum.derivatives import slopes_and_bends
from bayesgen.spectrum.evidence import gaussian_evidence
from bayesgen.spectrum.measures import SpectralMeasures

# Points per factor of ten on the coarse grid of the maximisation.
_PER_DECADE = 6
# What is said of targets that have no maximum of the evidence.
ALL_ZERO = (
    "y must not be zero throughout: the evidence of all-zero targets grows without bound as the "
    "variances shrink"
)


class Maximum(NamedTuple):
    """Outputscale and noise variance at which the evidence is largest.

    Attributes:
        scale: outputscale s, of the batch shape.
        noise: noise variance σ², of the batch shape.
        evidence: the Evidence at (s, σ²).
        at_bound: True where the optimum lies on the edge of the searched range of σ²/s. The optimum
            then has either no noise or nothing but noise.
    """

    scale: Tensor
    noise: Tensor
    evidence: Evidence
    at_bound: Tensor


class BestSettings(NamedTuple):
    """Outputscale and noise variance at which the evidence is largest, with its parts unchecked.

    Attributes:
        scale: outputscale s, of the batch shape.
        noise: noise variance σ², of the batch shape.
        parts: the `EvidenceParts` at (s, σ²).
        at_bound: as in `Maximum`.
    """

    scale: Tensor
    noise: Tensor
    parts: EvidenceParts
    at_bound: Tensor


def maximise(
    spectrum: SpectralMeasures, scale: Tensor | None = None, noise: Tensor | None = None
) -> BestSettings:
    """Compute `Spectrum.maximise` from the spectral measures alone, without checks.

    Args:
        spectrum: spectral measures with targets.
        scale: outputscale to keep, () or of the batch shape; None to search it.
        noise: noise variance to keep, () or of the batch shape; None to search it.

    Raises:
        ValueError: the targets of a task are all zero; K is zero.
    """
    targets = spectrum.target_measure()
    norms = targets.weights.sum(-1)
    if (norms == 0).any():
        raise ValueError(ALL_ZERO)
    shape = targets.weights.shape[:-1]
    like, cells = spectrum.density.nodes, spectrum.n * spectrum.outputs
    if scale is not None and noise is not None:
        scale, noise = scale.expand(shape), noise.expand(shape)
        never = torch.zeros(shape, dtype=torch.bool, device=like.device)
        return BestSettings(scale, noise, _parts(spectrum, scale, noise), never)
    # The search is in units in which the targets of each task have mean square 1, so that sums do
    # not leave the range of the dtype.
    unit = norms / cells
    targets = Measure(targets.nodes, targets.weights / unit[..., None])
    measures = replace(spectrum, targets=targets)
    given_scale = None if scale is None else scale.expand(shape) / unit
    given_noise = None if noise is None else noise.expand(shape) / unit

    def settings(log_ratio: Tensor, quadratic: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(s, σ²) on the searched curve; quadratic = Σ tᵢ/(λᵢ+ρ) if it is already computed."""
        ratio = log_ratio.exp()
        if given_noise is not None:
            return given_noise / ratio, given_noise.expand_as(ratio)
        if given_scale is not None:
            return given_scale.expand_as(ratio), given_scale * ratio
        if quadratic is None:
            quadratic = targets.integrate(lambda nodes: 1 / (nodes + ratio[..., None]))
        return quadratic / cells, quadratic / cells * ratio

    def slopes(log_ratio: Tensor) -> tuple[Tensor, Tensor]:
        """First and second derivative of the evidence along the searched curve in log ρ."""
        scale, noise = settings(log_ratio)
        g, h = slopes_and_bends(measures, scale[..., None], noise[..., None])
        if given_noise is not None:  # log s = log σ² − log ρ
            return -g[..., 0], h[..., 0, 0]
        if given_scale is not None:
            return g[..., 1], h[..., 1, 1]
        mixed = h[..., 0, 1] + h[..., 1, 1]
        own = h[..., 0, 0] + 2 * h[..., 0, 1] + h[..., 1, 1]
        return g[..., 1], h[..., 1, 1] - mixed**2 / own

    low, high = _ratio_range(spectrum, given_scale, given_noise)
    count = math.ceil((high - low) / math.log(10) * _PER_DECADE) + 1
    grid = torch.linspace(low, high, count, dtype=like.dtype, device=like.device)
    # All tasks share the grid of ρ: with A = s(K + ρI), each ρ needs two sums.
    shifts = grid.exp()
    quadratic = targets.resolvent(shifts).movedim(-1, 0)

    logdet = spectrum.density.log_shifted(shifts)
    along = (count,) + (1,) * len(shape)
    scales = settings(grid.reshape(along).expand(count, *shape), quadratic)[0]
    values = -0.5 * (
        quadratic / scales + spectrum.outputs * logdet.reshape(along) + cells * scales.log()
    )
    best = values.argmax(0)
    lower, upper = grid[(best - 1).clamp(min=0)], grid[(best + 1).clamp(max=count - 1)]
    log_ratio = _newton(slopes, grid[best], lower, upper)
    at_bound = ((log_ratio - low).abs() < 1e-6) | ((log_ratio - high).abs() < 1e-6)
    found_scale, found_noise = (value * unit for value in settings(log_ratio))
    scale = found_scale if scale is None else scale.expand(shape).clone()
    noise = found_noise if noise is None else noise.expand(shape).clone()
    return BestSettings(scale, noise, _parts(spectrum, scale, noise), at_bound)


def _parts(spectrum: SpectralMeasures, scale: Tensor, noise: Tensor) -> EvidenceParts:
    return gaussian_evidence(spectrum, scale[..., None], noise[..., None])


def _ratio_range(
    spectrum: SpectralMeasures, scale: Tensor | None, noise: Tensor | None
) -> tuple[float, float]:
    """Searched range of log(σ²/s).

    It is from K's rounding level to 10⁶ times its largest eigenvalue. Where one of the two is kept,
    it also contains the ratios at which the other one explains the targets.

    Args:
        spectrum: spectral measures.
        scale, noise: the setting that is kept, in units of the mean square of the targets, or None.
    """
    largest = float(spectrum.largest)
    if largest == 0:
        raise ValueError("K must have a non-zero entry, got a matrix of zeros")
    floor = 10 * spectrum.n * torch.finfo(spectrum.density.nodes.dtype).eps
    low, high = math.log(floor * largest), math.log(1e6 * largest)
    if noise is not None:
        mean = max(float(spectrum.density.integrate(lambda v: v)) / spectrum.n, floor * largest)
        low = min(low, float(noise.min().log()) + math.log(1e-3 * mean))
        high = max(high, float(noise.max().log()) + math.log(1e6 * largest))
    if scale is not None:
        high = max(high, math.log(1e3) - float(scale.min().log()))
    return low, high


def _newton(
    slopes: Callable[[Tensor], tuple[Tensor, Tensor]], start: Tensor, lower: Tensor, upper: Tensor
) -> Tensor:
    """Maximise a batch of curves within brackets.

    Each step is a Newton step, replaced by bisection where it would leave the bracket.
    """
    point = start
    tolerance = 4 * torch.finfo(start.dtype).eps ** 0.5
    for _ in range(60):
        first, second = slopes(point)
        lower = torch.where(first > 0, point, lower)
        upper = torch.where(first < 0, point, upper)
        step = torch.where(second < 0, -first / second, torch.full_like(first, math.inf))
        proposal = point + step
        inside = (proposal >= lower) & (proposal <= upper)
        new = torch.where(inside, proposal, 0.5 * (lower + upper))
        new = torch.where(first == 0, point, new)
        moved = (new - point).abs().max()
        point = new
        if moved < tolerance:
            break
    return point

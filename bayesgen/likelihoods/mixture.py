"""Observations whose latent value is normal: their distribution, by quadrature.

The integrals are ∫ g(f) N(f; m, v) df. The width of g may be any multiple of √v, and the integrand
may have its peak far from m. Gauss–Legendre rules are therefore applied on panels around three
places: the mean m, the place where g changes, and the peak of the integrand. The panels are of the
width of the respective scale nearby, and grow in proportion to the distance further away.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

# Nodes of a panel, and its width in units of the scale of its place.
_NODES, _PANEL = 12, 2.0
# Distance from each place, in units of its scale, up to which panels have that width.
_REACH = 14.0
# Largest number of times that panels double.
_DOUBLINGS = 120
# Points of one zoom into the peak, and number of zooms.
_POINTS, _ZOOMS = 17, 14
# Largest number of values of an integrand at a time.
_ENTRIES = 2**21


class Observation(Protocol):
    """What a mixture needs to know of a likelihood; see `bayesgen.likelihoods.likelihood`."""

    def element(self, y: Tensor, f: Tensor) -> Tensor:
        """Log density log p(yᵢ | fᵢ), element by element."""

    def focus(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Place and width of log p(y | f) as a function of f, element by element."""

    def observe(self, f: Tensor) -> Distribution:
        """Distribution of observations given f."""

    def moments(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of observations with f ~ N(mean, variance), element by element."""

    def cumulative(self, y: Tensor, f: Tensor) -> Tensor:
        """Probability of an observation of at most y given f, element by element."""

    def draw(self, f: Tensor) -> Tensor:
        """One observation for each latent value."""


class LatentMixture(Distribution):
    """The distribution ∫ p(y | f) N(f; m, v) df of an observation with a normal latent value.

    `log_prob` and `cdf` integrate when they are called, by rules that depend on y. The error of
    `log_prob` is below 10⁻⁶ nats for the likelihoods of this package, as the tests check for v
    from 10⁻⁶ to 10⁸.

    Args:
        likelihood: likelihood with one latent value for each observation.
        mean: latent means m, of any shape.
        variance: latent variances v ≥ 0, of the same shape.

    Attributes:
        loc: latent means.
        latent_variance: latent variances.

    Example:
        >>> from bayesgen.likelihoods import Poisson
        >>> zero = torch.zeros(1, dtype=torch.float64)
        >>> LatentMixture(Poisson(), zero, zero + 1).log_prob(zero).exp().round(decimals=6)
        tensor([0.381756], dtype=torch.float64)
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 (as torch declares it)

    def __init__(
        self,
        likelihood: Observation,
        mean: Tensor,
        variance: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        self.likelihood = likelihood
        self.loc, self.latent_variance = torch.broadcast_tensors(mean, variance.clamp(min=0))
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def support(self) -> Any:
        """The support of observations, which is that of the likelihood."""
        return self.likelihood.observe(self.loc).support

    def expand(self, batch_shape: Any, _instance: Any = None) -> LatentMixture:
        """The same distributions, in a larger batch shape."""
        shape = torch.Size(batch_shape)
        return LatentMixture(
            self.likelihood, self.loc.expand(shape), self.latent_variance.expand(shape)
        )

    @property
    def mean(self) -> Tensor:
        """Mean of an observation; infinite or NaN where it does not exist."""
        return self.likelihood.moments(self.loc, self.latent_variance)[0]

    @property
    def variance(self) -> Tensor:
        """Variance of an observation; infinite or NaN where it does not exist."""
        return self.likelihood.moments(self.loc, self.latent_variance)[1]

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008 (as in torch)
        """Draw latent values and an observation for each."""
        shape = self._extended_shape(sample_shape)
        with torch.no_grad():
            z = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
            return self.likelihood.draw(self.loc + self.latent_variance.sqrt() * z)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density or log probability of observations, in nats."""
        if self._validate_args:
            self._validate_sample(value)
        value = torch.as_tensor(value, device=self.loc.device).to(self.loc.dtype)
        focus = self.likelihood.focus(value.double())
        return _over(
            lambda y, f: self.likelihood.element(y, f),
            value,
            self.loc,
            self.latent_variance,
            focus,
        )

    def cdf(self, value: Tensor) -> Tensor:
        """Probability of an observation of at most `value`."""
        value = torch.as_tensor(value, device=self.loc.device).to(self.loc.dtype)
        focus = self.likelihood.focus(value.double())
        logs = _over(
            lambda y, f: self.likelihood.cumulative(y, f).clamp(min=0).log(),
            value,
            self.loc,
            self.latent_variance,
            focus,
        )
        return logs.exp().clamp(max=1)

    def __repr__(self) -> str:
        return f"LatentMixture({type(self.likelihood).__name__}, {tuple(self.batch_shape)})"


def log_expectation(
    log_g: Callable[[Tensor], Tensor],
    mean: Tensor,
    variance: Tensor,
    focus: tuple[float, float] = (0.0, 1.0),
) -> Tensor:
    """The logarithm of E[g(f)] with f ~ N(mean, variance), element by element.

    Args:
        log_g: log g of latent values, element by element; −∞ where g is 0.
        mean: latent means, of any shape.
        variance: latent variances, at least 0, of the same shape.
        focus: place and width of the part of f in which g changes.

    Example:
        >>> zero = torch.zeros(1, dtype=torch.float64)
        >>> log_expectation(torch.nn.functional.logsigmoid, zero, zero + 4).exp()
        tensor([0.5000], dtype=torch.float64)
    """
    centre, width = (torch.full_like(mean, v, dtype=torch.float64) for v in focus)
    return _over(lambda _, f: log_g(f), mean, mean, variance, (centre, width))


def _over(
    log_g: Callable[[Tensor, Tensor], Tensor],
    value: Tensor,
    mean: Tensor,
    variance: Tensor,
    focus: tuple[Tensor, Tensor],
) -> Tensor:
    """The logarithm of E[g(y, f)], element by element, in float64 and in blocks of elements."""
    given = torch.broadcast_tensors(value, mean, variance, *focus)
    shape = given[0].shape
    y, m, v, centre, width = (part.double().reshape(-1) for part in given)
    result = [m.new_zeros(0)]
    start = 0
    with torch.no_grad():
        sd = v.clamp(min=1e-280).sqrt()
        place = ((centre - m) / sd).clamp(-1e150, 1e150)
        scale = (width / sd).clamp(1e-30, 1e150)
        doublings = _doublings(place, scale)
    each = max(1, _ENTRIES // (_NODES * (6 * int(_REACH / _PANEL) + 4 * doublings)))
    while start < len(y):
        some = slice(start, start + each)
        root = v[some].clamp(min=1e-280).sqrt()[:, None]

        def log_integrand(z: Tensor, some: slice = some, root: Tensor = root) -> Tensor:
            return log_g(y[some, None], m[some, None] + root * z) - 0.5 * z.square()

        with torch.no_grad():
            z, weights = _rule(log_integrand, place[some, None], scale[some, None], doublings)
        total = (log_integrand(z) + weights).logsumexp(-1)
        result.append(total - 0.5 * math.log(2 * math.pi))
        start += each
    return torch.cat(result).reshape(shape).to(mean.dtype)


def _doublings(place: Tensor, scale: Tensor) -> int:
    """Number of times that panels around a place double until they cover all."""
    if not len(place):
        return 1
    span = (2 * _REACH + place.abs()) / (_REACH * scale.clamp(max=1.0))
    return min(_DOUBLINGS, max(1, math.ceil(math.log2(float(span.max())))) + 1)


def _rule(
    log_integrand: Callable[[Tensor], Tensor], place: Tensor, scale: Tensor, doublings: int
) -> tuple[Tensor, Tensor]:
    """Nodes z and logarithms of weights, (k, Q), for k integrands with one place (k, 1) each."""
    zero, one = torch.zeros_like(place), torch.ones_like(place)
    marks = [_edges(zero, one, doublings), _edges(place, scale, doublings)]
    low = torch.minimum(-_REACH * one, place - _REACH * scale)
    high = torch.maximum(_REACH * one, place + _REACH * scale)
    edges = torch.cat(marks, -1).clamp(low, high).sort(-1).values
    peak, width = _peak(log_integrand, edges)
    low = torch.minimum(-_REACH * one, peak - _REACH * width)
    high = torch.maximum(_REACH * one, peak + _REACH * width)
    marks.append(_edges(peak, width, doublings))
    edges = torch.cat([low, *marks, high], -1).clamp(low, high).sort(-1).values
    nodes, weights = _legendre()
    a, b = edges[:, :-1, None], edges[:, 1:, None]
    half = 0.5 * (b - a)
    z = a + half * (1 + nodes.to(edges))
    return z.flatten(1), (half * weights.to(edges)).log().flatten(1)


def _edges(place: Tensor, scale: Tensor, doublings: int) -> Tensor:
    """Ends of panels around places (k, 1): of even width nearby, then doubling."""
    even = torch.arange(0.0, _REACH + 1e-9, _PANEL, dtype=torch.float64)
    far = _REACH * 2.0 ** torch.arange(1, doublings + 1, dtype=torch.float64)
    offsets = torch.cat([even, far])
    offsets = torch.cat([-offsets.flip(0), offsets[1:]]).to(place)
    return place + scale * offsets


def _peak(log_integrand: Callable[[Tensor], Tensor], edges: Tensor) -> tuple[Tensor, Tensor]:
    """The place of the largest value, (k, 1), and the distance at which the logarithm falls by ½.

    The search looks between the ends of the panels that neighbour the largest value.
    """
    grid = edges
    for _ in range(_ZOOMS):
        values = log_integrand(grid).nan_to_num(nan=-math.inf)
        top = values.argmax(-1, keepdim=True)
        last = grid.shape[-1] - 1
        low, high = (
            grid.gather(-1, (top - 1).clamp(min=0)),
            grid.gather(-1, (top + 1).clamp(max=last)),
        )
        peak, best = grid.gather(-1, top), values.gather(-1, top)
        steps = torch.linspace(0, 1, _POINTS, dtype=grid.dtype, device=grid.device)
        grid = torch.cat([low + (high - low) * steps, peak], -1).sort(-1).values
    lengths = 2.0 ** torch.arange(-60, 8, dtype=grid.dtype, device=grid.device)
    drops = best - 0.5 * (log_integrand(peak - lengths) + log_integrand(peak + lengths))
    count = (drops.nan_to_num(nan=math.inf) < 0.5).double().cumprod(-1).sum(-1, keepdim=True)
    return peak, lengths[(count.long() - 1).clamp(min=0)].clamp(max=1.0)


@cache
def _legendre() -> tuple[Tensor, Tensor]:
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return torch.as_tensor(nodes), torch.as_tensor(weights)

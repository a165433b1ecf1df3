"""Observations whose latent value is normal: their distribution, by quadrature.

The integrals are ∫ g(f) N(f; m, v) df. The width of g may be any multiple of √v, and the integrand
may have its peak far from m. Gauss–Legendre rules are therefore applied on panels around three
places: the mean m, the place where g changes, and the peak of the integrand. The panels are of the
width of the respective scale nearby, and grow in proportion to the distance further away.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, cached_property
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
# Largest number of bisections for a quantile, and the width of the last interval relative to its
# ends.
_BISECTIONS, _RELATIVE = 200, 1e-12
# Points of the grid on which a corrected density is drawn from.
_GRID = 4001


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

    def log_raw_moments(self, f: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of the first two moments of observations given f."""

    def cumulative(self, y: Tensor, f: Tensor) -> Tensor:
        """Probability of an observation of at most y given f, element by element."""

    def draw(self, f: Tensor) -> Tensor:
        """One observation for each latent value."""


class Correction(Protocol):
    """Factors of the normal densities of some latent values, which need not be normalised."""

    # Number of values that each factor takes.
    width: int

    def __call__(self, index: Tensor, z: Tensor) -> Tensor:
        """Logarithm of the factors of latent values `index` (k,) at standardised z (k, Q)."""

    def scale(self, index: Tensor) -> Tensor:
        """Distance in z within which the logarithm may change by about its own size, (k, 1)."""


class LatentMixture(Distribution):
    """The distribution ∫ p(y | f) N(f; m, v) df of an observation with a normal latent value.

    `log_prob` and `cdf` integrate when they are called, by rules that depend on y. The error of
    `log_prob` is below 10⁻⁶ nats for the likelihoods of this package, as the tests check for v
    from 10⁻⁶ to 10⁸.

    Args:
        likelihood: likelihood with one latent value for each observation.
        mean: latent means m, of any shape.
        variance: latent variances v ≥ 0, of the same shape.
        correction: factors of the normal densities, in the flat order of the means; None leaves the
            densities normal.
        validate_args: whether observations outside of the support are refused; None takes torch's
            default, which `torch.compile` sets to False for the whole process.

    Attributes:
        loc: latent means.
        latent_variance: latent variances.

    Example:
        >>> from bayesgen.likelihoods import Poisson
        >>> zero = torch.zeros(1, dtype=torch.float64)
        >>> LatentMixture(Poisson(), zero, zero + 1).log_prob(zero).exp()
        tensor([0.3818], dtype=torch.float64)
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 (as torch declares it)

    def __init__(
        self,
        likelihood: Observation,
        mean: Tensor,
        variance: Tensor,
        correction: Correction | None = None,
        validate_args: bool | None = True,
    ) -> None:
        self.likelihood, self.correction = likelihood, correction
        self.loc, self.latent_variance = torch.broadcast_tensors(mean, variance.clamp(min=0))
        self._index = torch.arange(self.loc.numel(), device=mean.device).reshape(self.loc.shape)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def support(self) -> Any:
        """The support of observations, which is that of the likelihood."""
        return self.likelihood.observe(self.loc).support

    def expand(self, batch_shape: Any, _instance: Any = None) -> LatentMixture:
        """The same distributions, in a larger batch shape."""
        shape = torch.Size(batch_shape)
        own = LatentMixture(
            self.likelihood,
            self.loc.expand(shape),
            self.latent_variance.expand(shape),
            self.correction,
            self._validate_args,
        )
        own._index = self._index.expand(shape)
        return own

    @property
    def mean(self) -> Tensor:
        """Mean of an observation; infinite or NaN where it does not exist."""
        if self.correction is None:
            return self.likelihood.moments(self.loc, self.latent_variance)[0]
        return self._log_moment(0).exp()

    @property
    def variance(self) -> Tensor:
        """Variance of an observation; infinite or NaN where it does not exist."""
        if self.correction is None:
            return self.likelihood.moments(self.loc, self.latent_variance)[1]
        first, second = self._log_moment(0), self._log_moment(1)
        return second.exp() * -torch.expm1((2 * first - second).clamp(max=0))

    def _log_moment(self, order: int) -> Tensor:
        zero = torch.zeros_like(self.loc)
        return self._average(
            lambda _, f: self.likelihood.log_raw_moments(f)[order], zero, (zero, zero + 1)
        )

    def _average(
        self,
        log_g: Callable[[Tensor, Tensor], Tensor],
        value: Tensor,
        focus: tuple[Tensor, Tensor],
    ) -> Tensor:
        """The logarithm of E[g(y, f)], element by element."""
        if self.correction is None:
            return _over(log_g, value, self.loc, self.latent_variance, focus)
        corrected = (self._index, self.correction)
        result = _over(log_g, value, self.loc, self.latent_variance, focus, corrected)
        return result - self._log_norm

    @cached_property
    def _log_norm(self) -> Tensor:
        """Logarithm of the integral of the corrected density, of the batch shape."""
        zero = torch.zeros_like(self.loc)
        return _over(
            lambda _, f: torch.zeros_like(f),
            zero,
            self.loc,
            self.latent_variance,
            (self.loc, self.latent_variance.clamp(min=1e-280).sqrt()),
            (self._index, self.correction) if self.correction is not None else None,
        )

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008 (as in torch)
        """Draw latent values and an observation for each."""
        shape = self._extended_shape(sample_shape)
        with torch.no_grad():
            if self.correction is None:
                z = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
            else:
                z = self._draw_corrected(shape)
            return self.likelihood.draw(self.loc + self.latent_variance.sqrt() * z)

    def _draw_corrected(self, shape: torch.Size) -> Tensor:
        """Standardised latent values by inversion of their distribution function on a fine grid."""
        assert self.correction is not None
        index = self._index.reshape(-1)
        grid = torch.linspace(-_REACH, _REACH, _GRID, dtype=torch.float64, device=index.device)
        draws = torch.rand(shape, dtype=torch.float64, device=index.device)
        draws = draws.reshape(-1, len(index))
        columns = []
        for k in range(len(index)):
            z = grid[None]
            logs = self.correction(index[k : k + 1], z) - 0.5 * z.square()
            cumulative = (logs - logs.max()).exp().cumsum(-1)[0]
            cumulative = cumulative / cumulative[-1]
            right = torch.searchsorted(cumulative, draws[:, k]).clamp(1, _GRID - 1)
            low, high = cumulative[right - 1], cumulative[right]
            share = (draws[:, k] - low) / (high - low).clamp(min=1e-300)
            columns.append(grid[right] - (1 - share.clamp(0, 1)) * (grid[1] - grid[0]))
        return torch.stack(columns, 1).reshape(shape).to(self.loc.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density or log probability of observations, in nats."""
        if self._validate_args:
            self._validate_sample(value)
        value = torch.as_tensor(value, device=self.loc.device).to(self.loc.dtype)
        focus = self.likelihood.focus(value.double())
        return self._average(self.likelihood.element, value, focus)

    def cdf(self, value: Tensor) -> Tensor:
        """Probability of an observation of at most `value`."""
        value = torch.as_tensor(value, device=self.loc.device).to(self.loc.dtype)
        focus = self.likelihood.focus(value.double())
        logs = self._average(
            lambda y, f: self.likelihood.cumulative(y, f).clamp(min=0).log(), value, focus
        )
        return logs.exp().clamp(max=1)

    @property
    def median(self) -> Tensor:
        """The smallest observation at which `cdf` is at least one half, by bisection.

        Unlike the mean of counts, it is hardly changed by a latent value that the data leave
        uncertain: the mean grows with e^(v/2).
        """
        return self.icdf(torch.tensor(0.5, dtype=torch.float64))

    def icdf(self, value: Tensor) -> Tensor:
        """The smallest observation at which `cdf` is at least `value`, by bisection.

        Args:
            value: probabilities in (0, 1), broadcastable with the batch shape.

        Example:
            >>> from bayesgen.likelihoods import Poisson
            >>> zero = torch.zeros(1, dtype=torch.float64)
            >>> LatentMixture(Poisson(), zero, zero + 1).icdf(torch.tensor(0.95))
            tensor([6.], dtype=torch.float64)
        """
        counts = self.support is constraints.nonnegative_integer
        value = torch.as_tensor(value, device=self.loc.device).to(self.loc.dtype)
        with torch.no_grad():
            low, high = self._around(value, counts)
            for _ in range(_BISECTIONS):
                middle = 0.5 * (low + high)
                middle = middle.floor() if counts else middle
                least = 1.0 if counts else _RELATIVE * (low.abs() + high.abs())
                if (high - low <= least).all():
                    break
                below = self.cdf(middle) < value
                low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return torch.where(self.cdf(low) >= value, low, high) if counts else 0.5 * (low + high)

    def _around(self, value: Tensor, counts: bool) -> tuple[Tensor, Tensor]:
        """Observations of which the quantile of a probability lies between the two."""
        if counts:
            low, high = torch.zeros_like(self.loc), torch.ones_like(self.loc)
        else:
            step = 1 + self.loc.abs() + self.latent_variance.sqrt()
            low, high = self.loc - step, self.loc + step
        for _ in range(_DOUBLINGS):
            above, below = self.cdf(low) >= value, self.cdf(high) < value
            if not below.any() and (counts or not above.any()):
                break
            width = high - low
            low = low if counts else torch.where(above, low - width, low)
            high = torch.where(below, high + width, high)
        return low, high

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
    corrected: tuple[Tensor, Correction] | None = None,
) -> Tensor:
    """The logarithm of E[g(y, f)], element by element, in float64 and in blocks of elements."""
    index, correction = (None, None) if corrected is None else corrected
    given = torch.broadcast_tensors(value, mean, variance, *focus)
    shape = given[0].shape
    y, m, v, centre, width = (part.double().reshape(-1) for part in given)
    places = None if index is None else index.expand(shape).reshape(-1)
    result = [m.new_zeros(0)]
    start = 0
    with torch.no_grad():
        sd = v.clamp(min=1e-280).sqrt()
        place = ((centre - m) / sd).clamp(-1e150, 1e150)
        scale = (width / sd).clamp(1e-30, 1e150)
        doublings = _doublings(place, scale)
    entries = _NODES * (6 * int(_REACH / _PANEL) + 4 * doublings)
    if correction is not None:
        entries *= 2 * correction.width
    each = max(1, _ENTRIES // entries)
    while start < len(y):
        some = slice(start, start + each)
        root = v[some].clamp(min=1e-280).sqrt()[:, None]

        def log_integrand(z: Tensor, some: slice = some, root: Tensor = root) -> Tensor:
            logs = log_g(y[some, None], m[some, None] + root * z) - 0.5 * z.square()
            if correction is None or places is None:
                return logs
            return logs + correction(places[some], z)

        marks = [(place[some, None], scale[some, None])]
        if correction is not None and places is not None:
            marks += _changes(correction, places[some])
        with torch.no_grad():
            z, weights = _rule(log_integrand, marks, doublings)
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
    log_integrand: Callable[[Tensor], Tensor],
    places: list[tuple[Tensor, Tensor]],
    doublings: int,
) -> tuple[Tensor, Tensor]:
    """Nodes z and logarithms of weights, (k, Q), for k integrands.

    Args:
        log_integrand: logarithm of the integrands at z (k, Q).
        places: places at which they change, with their scales, (k, 1) each.
        doublings: number of times that panels double around each place.
    """
    zero, one = torch.zeros_like(places[0][0]), torch.ones_like(places[0][0])
    marks = [_edges(at, scale, doublings) for at, scale in [(zero, one), *places]]
    ends = [_REACH * one, *(at.abs() + _REACH * scale for at, scale in places)]
    far = torch.cat(ends, -1).max(-1, keepdim=True).values
    edges = torch.cat(marks, -1).clamp(-far, far).sort(-1).values
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


def _changes(correction: Correction, index: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The places on either side of 0 at which a correction falls to e⁻¹, with its scale."""
    scale = correction.scale(index)
    found = []
    for sign in (-1.0, 1.0):
        low, high = torch.zeros_like(scale), torch.full_like(scale, _REACH)
        for _ in range(40):
            middle = 0.5 * (low + high)
            fallen = correction(index, sign * middle) < -1
            low, high = torch.where(fallen, low, middle), torch.where(fallen, middle, high)
        found.append((sign * high, scale))
    return found


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

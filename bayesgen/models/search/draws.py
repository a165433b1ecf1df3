"""Random settings of a kernel's parameters, drawn by what each parameter means for the data."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import gpytorch
import numpy as np
import torch
from gpytorch.kernels import Kernel

from bayesgen._internal.user_warning import warn
from bayesgen.kernels.parameters import (
    BANDWIDTH,
    FREQUENCY,
    LENGTH,
    OTHER,
    PERIOD,
    SHAPE,
    SQUARE,
    VARIANCE,
    Coordinates,
    Parameter,
)
from bayesgen.kernels.structure import multiplied, terms
from bayesgen.models.search.inputs import InputScales

# Largest length-scale that is drawn, as a multiple of the diameter of the inputs.
_LONGEST = 3.0
# The same in nearest distances: one input may lie far away from all others.
_WIDEST = 1e8
# Share of the draws of a period or frequency that come from the peaks of the periodogram.
_PEAKS = 0.7
# Standard deviation of the logarithm of a term's share of the variance.
_SHARES = 1.5
# Share of the draws of a variance with a wider spread, and that spread.
_RARE, _WIDE = 0.15, 6.0
# Share of the draws of a parameter with a registered prior that come from the prior.
_PRIOR = 0.5
# Largest distance of the logarithm of a parameter of unknown meaning from its own value.
_UNKNOWN = 3.0


class Draws:
    """Settings θ of a kernel, drawn by the roles of its parameters.

    Args:
        coordinates: search coordinates of the kernel.
        theta: coordinates of the user's kernel, (p,).
        inputs: scales of the inputs.
        variance: typical variance of the kernel, in the unit of its outputscales.
        seed: seed of the draws.
    """

    def __init__(
        self,
        coordinates: Coordinates,
        theta: np.ndarray,
        inputs: InputScales,
        variance: float,
        seed: int,
    ) -> None:
        self.coordinates, self.theta, self.inputs = coordinates, theta, inputs
        self.variance = variance
        self.random = np.random.default_rng(seed)
        self.seed = seed
        self._terms = max(1, len(list(terms(coordinates.kernel))))
        self._inner = multiplied(coordinates.kernel)

    def sample(self, count: int) -> np.ndarray:
        """Draw settings θ, (count, p)."""
        result = np.tile(self.theta, (count, 1))
        for p in self.coordinates.parameters:
            for row in result:
                row[p.where] = self._one(p)
        from_priors = _prior_draws(self.coordinates, self.theta, count, self.seed)
        if from_priors is not None:
            use = ~np.isnan(from_priors) & (self.random.random((count, 1)) < _PRIOR)
            result = np.where(use, from_priors, result)
        return result

    def _one(self, p: Parameter) -> np.ndarray:
        size = p.where.stop - p.where.start
        role = p.role
        # Only gpytorch's own kernels are known to mean what the names of their parameters say.
        known = type(p.part.kernel).__module__.startswith("gpytorch.")
        if role == LENGTH and size in (1, len(p.part.columns)):
            return self._lengthscale(p, size)
        if role == PERIOD and known:
            return self._period(p, size)
        if role in (FREQUENCY, BANDWIDTH) and len(p.shape) == 3 and known:
            return self._spectral(p)
        if role == VARIANCE and known:
            return self._variance(p, size)
        if role == SQUARE and known:
            square = math.log(self.inputs.mean_square(p.part.columns))
            return square + self.random.uniform(math.log(0.01), math.log(10.0), size)
        if role == SHAPE and known:
            return self.random.uniform(math.log(0.05), math.log(20.0), size)
        own = self.theta[p.where]
        if role == OTHER:
            return own + np.maximum(np.abs(own), 1.0) * self.random.standard_normal(size)
        return own + self.random.uniform(-_UNKNOWN, _UNKNOWN, size)

    def _lengthscale(self, p: Parameter, size: int) -> np.ndarray:
        columns, inputs, random = p.part.columns, self.inputs, self.random
        if size == 1:
            low = inputs.nearest(columns)
            high = min(_LONGEST * inputs.diameter(columns), _WIDEST * low)
            return random.uniform(math.log(low), math.log(max(high, low)), 1)
        unit = np.log(inputs.ranges[list(columns)])
        low = inputs.nearest_in_ranges(columns)
        high = max(_LONGEST * math.sqrt(size), low)
        draw = unit + random.uniform(math.log(low), math.log(high))
        draw = draw + 0.7 * random.standard_normal(size)
        if random.random() < 0.5:  # some columns do not matter
            off = random.random(size) < 0.5
            draw = draw + off * random.uniform(math.log(3.0), math.log(100.0), size)
        return draw

    def _period(self, p: Parameter, size: int) -> np.ndarray:
        # gpytorch's cosine kernel is cos(π d/p), which repeats after 2p.
        factor = 0.5 if isinstance(p.part.kernel, gpytorch.kernels.CosineKernel) else 1.0
        columns = p.part.columns if size == len(p.part.columns) else p.part.columns[:size]
        return np.array([math.log(factor * self._one_period(c)) for c in columns])

    def _one_period(self, column: int) -> float:
        found, weights = self.inputs.periods(column)
        random = self.random
        if len(found) and random.random() < _PEAKS:
            even = 0.5 * weights + 0.5 / len(weights)
            multiple = random.choice([1.0, 1.0, 1.0, 2.0, 3.0, 0.5])
            jitter = math.exp(0.02 * random.standard_normal())
            return float(random.choice(found, p=even)) * multiple * jitter
        low, high = 2 * self.inputs.nearest((column,)), self.inputs.diameter((column,))
        return math.exp(random.uniform(math.log(low), math.log(max(high, low))))

    def _spectral(self, p: Parameter) -> np.ndarray:
        """Frequencies or bandwidths of a spectral mixture, (Q, 1, d) in one row."""
        count, _, d = p.shape
        result = np.empty((count, d))
        for k, column in enumerate(p.part.columns):
            span, gap = self.inputs.diameter((column,)), self.inputs.nearest((column,))
            for q in range(count):
                if p.role == BANDWIDTH:
                    low, high = 0.05 / span, max(0.2 / gap, 0.1 / span)
                    result[q, k] = self.random.uniform(math.log(low), math.log(high))
                elif self.random.random() < 0.2:  # a trend
                    low, high = 0.01 / span, 0.5 / span
                    result[q, k] = self.random.uniform(math.log(low), math.log(high))
                else:
                    result[q, k] = -math.log(self._one_period(column))
        return result.reshape(-1)

    def _variance(self, p: Parameter, size: int) -> np.ndarray:
        kernel, random = p.part.kernel, self.random
        spread = _WIDE if random.random() < _RARE else _SHARES
        share = spread * random.standard_normal(size) - math.log(self._terms * size)
        unit = 0.0 if id(kernel) in self._inner else math.log(self.variance)
        square = math.log(self.inputs.mean_square(p.part.columns))
        base = getattr(kernel, "base_kernel", None)
        if isinstance(kernel, gpytorch.kernels.LinearKernel):
            unit -= square
        elif isinstance(base, gpytorch.kernels.PolynomialKernel):
            unit -= base.power * square
        return unit + share


def _prior_draws(
    coordinates: Coordinates, theta: np.ndarray, count: int, seed: int
) -> np.ndarray | None:
    """Settings with the parameters that have registered priors drawn from them, or None.

    The other entries are NaN. torch's random state is left as it was.
    """
    named = list(coordinates.kernel.named_priors())
    if not named:
        return None
    result = np.full((count, len(theta)), np.nan)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kernel = copy.deepcopy(coordinates.kernel)
        for _, module, prior, closure, setter in kernel.named_priors():
            _draw_one(coordinates, kernel, theta, result, (module, prior, closure, setter))
    return result


def _draw_one(
    coordinates: Coordinates,
    kernel: Kernel,
    theta: np.ndarray,
    result: np.ndarray,
    of: tuple[gpytorch.Module, gpytorch.priors.Prior, Callable, Callable | None],
) -> None:
    module, prior, closure, setter = of
    if setter is None:
        return
    for row in result:
        coordinates.write(kernel, torch.as_tensor(theta))
        try:
            setter(module, prior.sample(closure(module).shape))
        except (RuntimeError, ValueError) as err:
            warn(
                f"the prior {type(prior).__name__} on {type(module).__name__} cannot be drawn "
                f"from ({err}); its parameter is drawn by its role"
            )
            return
        new = coordinates.read(kernel).double().numpy()
        moved = np.abs(new - theta) > 1e-9 * (1 + np.abs(theta))
        row[moved & np.isfinite(new)] = new[moved & np.isfinite(new)]

"""Maximise the Laplace evidence of a network with the mode found anew at each prior precision.

The evidence as a function of the prior precisions α and the noise variance σ² is taken along modes
θ*(α, σ²) of the log posterior, each found to rounding. Alternating between the mode and the best α
at a kept mode converges to another point, because the log-determinant changes with the mode.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
import torch
from torch import Tensor, nn

from bayesgen._internal import checks
from bayesgen._internal.progress import Progress
from bayesgen.errors import DivergedError, NotAtModeWarning
from bayesgen.likelihoods.likelihood import Likelihood, with_noise
from bayesgen.models.network.mode import NegativeLogPosterior, find_mode, weight_prior
from bayesgen.models.network.polish import polish
from bayesgen.models.network.posterior import NetworkPosterior
from bayesgen.networks import inputs
from bayesgen.networks.admission import undisturbed
from bayesgen.networks.copies import own_parameters
from bayesgen.networks.gradients import Passes, trainable, trainable_copy

# Step of the scan over one common factor, half its first width, and the largest distance from the
# start, all in log α.
_STRIDE, _WIDTH, _REACH = 1.0, 5, 15.0
# Number of local maxima of the scan that are refined.
_PEAKS = 3
# Step of the differences of the evidence in log α.
_DIFFERENCE = 1e-3
# Difference of the evidence, in nats, that counts as a gain.
_WORTH = 1e-7
# Distance from the bound, in log α, within which a precision counts as being at it.
_EDGE = 0.05
_BATCH = 250

Fixed = Callable[[nn.Module, Tensor, "Tensor | None"], NetworkPosterior]


class RemodeStart(NamedTuple):
    """Hyperparameters that the search starts from or keeps.

    Attributes:
        precision: prior precision of each group, (1,), or (L,) for one each of `own_parameters`.
        noise: noise variance σ², or None where the likelihood has none.
        free: names of the hyperparameters that are learnt: "prior_precision", "noise".
    """

    precision: Tensor
    noise: float | None
    free: frozenset[str]


class _Point(NamedTuple):
    """A mode with its evidence.

    Attributes:
        z: search variables.
        value: log evidence, in nats; −∞ where it cannot be computed.
        theta: weights at the mode, (P,).
        precision: prior precision of each group.
        noise: noise variance, or None.
        noise_at_bound: whether the best noise variance lies outside of the searched range.
    """

    z: np.ndarray
    value: float
    theta: np.ndarray
    precision: np.ndarray
    noise: float | None
    noise_at_bound: bool


def maximise(
    net: nn.Module,
    x: Any,
    y: Any,
    likelihood: Likelihood,
    prior_mean: nn.Module | None,
    start: RemodeStart,
    fixed: Fixed,
    progress: Progress | None = None,
) -> NetworkPosterior:
    """The Laplace posterior at the hyperparameters of largest evidence, and at the mode there.

    A common factor of all precisions is scanned in steps of e. At each, the mode is climbed from
    the given weights and from the modes at both neighbours, and the one of largest evidence is
    kept. The best maxima of the scan are refined by Brent's method with warm starts. Precisions of
    layers are then refined together by L-BFGS on differences of the evidence. A learnt noise
    variance is eliminated: at fixed λ = σ²α neither the mode nor the log-determinant depends on it,
    and σ² = (‖y − f‖² + Σ λᵢ(θᵢ − θ₀ᵢ)²)/(n·C) is best.

    Args:
        net: the network, which is not changed.
        x, y: observations.
        likelihood: likelihood as the user gave it.
        prior_mean: network that holds the prior means, or None.
        start: hyperparameters.
        fixed: function from a network, precisions (L,) or (1,), and a noise variance to the Laplace
            posterior at its weights.
        progress: called as progress(done, expected, what).

    Raises:
        TypeError, ValueError: as in `Laplace.fit`.
        DivergedError: the log posterior is not finite at the given weights.

    Warns:
        NotAtModeWarning: no mode was reached at the best hyperparameters, as where the network is
            not smooth.
    """
    copied = trainable_copy(trainable(net, in_place=False)).double()
    rows = inputs.converted(inputs.read("x", x, copied), torch.float64)
    with undisturbed(copied):
        run = Passes(copied, rows, original=net)
        like = run.first[:1].double().expand(len(rows), -1)
        own = likelihood.for_outputs(like.shape[1], checks.as_tensor("y", y).shape)
        targets = own.targets(y, like)
        if len(targets) != 1:
            raise ValueError("y must be of one task")
        modes = _Modes(run, rows, checks.owned(targets[0]), own, prior_mean, start, fixed, progress)
        best = _search(modes, start)
        modes.write(best.theta)
        found = fixed(copied, modes.tensor(best.precision), modes.noise_tensor(best.noise))
    edge = list(np.abs(best.z - modes.middle) > _REACH - _EDGE) if len(best.z) else []
    at_bound = edge if "prior_precision" in start.free else [False] * len(start.precision)
    if "noise" in start.free:
        at_bound += [best.noise_at_bound or (edge[-1] if modes.noise_only else False)]
    flags = torch.tensor(at_bound, dtype=torch.bool, device=start.precision.device)
    found._fitted = replace(found._fitted, setting=replace(found._fitted.setting, at_bound=flags))
    found.learnt = start.free
    said = f"{found.evidence.method}, with the mode found anew at each hyperparameter"
    found.evidence = replace(found.evidence, method=said)
    return found


class _Modes:
    """The mode and its evidence at each value of the search variables.

    The variables are log α of each group, log λ = log σ²α where the noise is learnt too, or log σ²
    where it alone is learnt.
    """

    def __init__(
        self,
        run: Passes,
        x: Any,
        y: Tensor,
        likelihood: Likelihood,
        prior_mean: nn.Module | None,
        start: RemodeStart,
        fixed: Fixed,
        progress: Progress | None,
    ) -> None:
        self.run, self.x, self.y, self.likelihood = run, x, y, likelihood
        self.prior_mean, self.start, self.fixed = prior_mean, start, fixed
        self.progress, self.calls = progress, 0
        self.layers = len(own_parameters(run.net))
        self.precision = start.precision.double().cpu().numpy()
        self.profiled = start.free >= {"prior_precision", "noise"}
        self.noise_only = start.free == {"noise"}
        self.given = self._objective(self.precision, start.noise or 1.0).point
        noise = math.log(start.noise or 1.0)
        if self.noise_only:
            self.middle = np.array([noise])
        elif "prior_precision" in start.free:
            self.middle = np.log(self.precision) + (noise if self.profiled else 0.0)
        else:
            self.middle = np.zeros(0)

    def at(self, z: np.ndarray, theta: np.ndarray) -> _Point:
        """The mode that is climbed from weights θ, (P,), and its evidence."""
        self.calls += 1
        if self.progress is not None:
            self.progress(self.calls, self.calls, "climbing to the mode at a prior precision")
        nothing = _Point(z, -math.inf, theta, self.precision, self.start.noise, False)
        precision, noise = self._unpacked(z)
        objective = self._objective(precision, 1.0 if noise is None else noise)
        objective.write(theta)
        try:
            find_mode(objective, steps=1000, pairs=30, tolerance=1e-7)
        except DivergedError:
            if theta is self.given:
                raise
            return nothing
        mode, _ = polish(objective)
        edge = False
        if self.profiled:
            precision, noise, edge = self._profile(objective, mode, precision)
        net = self.run.net
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotAtModeWarning)  # the final fit warns
            posterior = self.fixed(net, self.tensor(precision), self.noise_tensor(noise))
        value = float(posterior.evidence.log_marginal_likelihood)
        return _Point(z, value, mode, precision, noise, edge)

    def write(self, theta: np.ndarray) -> None:
        """Write weights (P,) to the network."""
        self._objective(self.precision, 1.0).write(theta)

    def tensor(self, precision: np.ndarray) -> Tensor:
        """Precisions as a tensor like those given."""
        return torch.from_numpy(precision).to(self.start.precision.device)

    def noise_tensor(self, noise: float | None) -> Tensor | None:
        """A noise variance as a tensor, ()."""
        return None if noise is None else torch.tensor(noise, dtype=torch.float64)

    def _unpacked(self, z: np.ndarray) -> tuple[np.ndarray, float | None]:
        """Precisions and noise variance; λ and 1 where the noise is eliminated."""
        if self.profiled:
            return np.exp(z), 1.0
        if self.noise_only:
            return self.precision, float(np.exp(z[0]))
        return (np.exp(z) if len(z) else self.precision), self.start.noise

    def _objective(self, precision: np.ndarray, noise: float) -> NegativeLogPosterior:
        own = self.likelihood
        if own.log_noise is not None:
            own = with_noise(own, torch.tensor(math.log(noise), dtype=torch.float64))
        each = np.broadcast_to(precision, (self.layers,)).tolist()
        prior = weight_prior(self.run.net, each, self.prior_mean)
        return NegativeLogPosterior(self.run, self.x, self.y, own, prior, _BATCH)

    def _profile(
        self, objective: NegativeLogPosterior, mode: np.ndarray, scaled: np.ndarray
    ) -> tuple[np.ndarray, float, bool]:
        """Precisions, best noise variance and whether it is at its bound, at λ (G,)."""
        value, _ = objective(mode)
        count = self.y.numel()
        # The objective at unit noise is ½[‖y − f‖² + Σ λ(θ − θ₀)² + n·C·log 2π].
        best = 2 * (value - 0.5 * count * math.log(2 * math.pi)) / count
        first = self.start.noise or 1.0
        low, high = first * math.exp(-_REACH), first * math.exp(_REACH)
        noise = min(max(best, low), high)
        return scaled / noise, noise, noise != best


def _search(modes: _Modes, start: RemodeStart) -> _Point:
    """The best point over the free hyperparameters."""
    if not len(modes.middle):
        return modes.at(modes.middle, modes.given)
    best = max((_refined(modes, *peak) for peak in _scan(modes)), key=lambda p: p.value)
    if len(best.z) > 1:
        best = _together(modes, best)
    return best


def _scan(modes: _Modes) -> list[tuple[_Point, float]]:
    """The best local maxima over one common factor, each with the stride of the scan."""
    found: dict[int, _Point] = {}

    def climb(k: int, theta: np.ndarray) -> None:
        point = modes.at(modes.middle + k * _STRIDE, theta)
        if k not in found or point.value > found[k].value:
            found[k] = point

    low, high = -_WIDTH, _WIDTH
    for k in range(low, high + 1):
        climb(k, modes.given)
    while True:
        best = max(found, key=lambda k: found[k].value)
        if best == low and -low * _STRIDE < _REACH:
            low -= 1
            climb(low, modes.given)
        elif best == high and high * _STRIDE < _REACH:
            high += 1
            climb(high, modes.given)
        else:
            break
    order = sorted(found)
    for k in (*order[1:], *order[::-1][1:]):
        for neighbour in (k - 1, k + 1):
            if neighbour in found and found[neighbour].theta is not found[k].theta:
                climb(k, found[neighbour].theta)
    peaks = [
        found[k]
        for k in order
        if all(found[k].value >= found[j].value for j in (k - 1, k + 1) if j in found)
    ]
    peaks.sort(key=lambda p: -p.value)
    return [(peak, _STRIDE) for peak in peaks[:_PEAKS]]


def _refined(modes: _Modes, peak: _Point, stride: float) -> _Point:
    """The maximum over one common factor next to a point, by Brent's method with warm starts."""
    best = peak
    centre = float((peak.z - modes.middle)[0])

    def negative(shift: float) -> float:
        nonlocal best
        point = modes.at(modes.middle + shift, best.theta)
        if point.value > best.value:
            best = point
        return -point.value

    bounds = max(centre - stride, -_REACH), min(centre + stride, _REACH)
    scipy.optimize.minimize_scalar(
        negative, bounds=bounds, method="bounded", options={"xatol": 1e-4}
    )
    return best


def _together(modes: _Modes, first: _Point) -> _Point:
    """The maximum over several precisions next to a point."""
    best = first
    bounds = np.stack([modes.middle - _REACH, modes.middle + _REACH], 1)

    def evaluate(z: np.ndarray) -> float:
        nonlocal best
        point = modes.at(z, best.theta)
        if point.value > best.value:
            best = point
        return point.value

    def negative(z: np.ndarray) -> tuple[float, np.ndarray]:
        value, base, slope = evaluate(z), best.theta, np.zeros_like(z)
        for k in range(len(z)):
            ahead, back = z.copy(), z.copy()
            ahead[k] = min(z[k] + _DIFFERENCE, bounds[k, 1])
            back[k] = max(z[k] - _DIFFERENCE, bounds[k, 0])
            up, down = modes.at(ahead, base).value, modes.at(back, base).value
            slope[k] = (up - down) / (ahead[k] - back[k])
        return -value, -slope

    while True:
        before = best.value
        scipy.optimize.minimize(
            negative,
            best.z,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": 60, "ftol": 1e-9, "gtol": 1e-4},
        )
        # Where the evidence rises towards a limit, the slope vanishes before the bound is reached.
        moved = _at_bounds(modes, best, bounds)
        if moved.value > best.value or not np.array_equal(moved.z, best.z):
            best = moved
        if best.value <= before + _WORTH:
            return best


def _at_bounds(modes: _Modes, best: _Point, bounds: np.ndarray) -> _Point:
    """The point with each precision moved to a bound where no evidence is lost by it."""
    for k in range(len(best.z)):
        for bound in bounds[k]:
            if best.z[k] == bound:
                continue
            z = best.z.copy()
            z[k] = bound
            point = modes.at(z, best.theta)
            if point.value >= best.value - _WORTH:
                best = point
    return best

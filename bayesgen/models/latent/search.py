"""Search the hyperparameters of largest Laplace evidence: screen, climb, finish."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from bayesgen._internal.progress import Progress
from bayesgen.covariance.gram import Gram, KernelGram
from bayesgen.covariance.linear import FeatureGram
from bayesgen.errors import NotConvergedError
from bayesgen.kernels.parameters import LENGTH
from bayesgen.likelihoods.likelihood import Likelihood
from bayesgen.models.hyperparameters import Free
from bayesgen.models.latent import Mode
from bayesgen.models.latent.objective import LaplaceEvidence, Start
from bayesgen.models.latent.setting import LatentFit, LatentSetting
from bayesgen.models.search import multistart
from bayesgen.models.search.ascent import Box, Stop
from bayesgen.models.search.draws import Draws
from bayesgen.models.search.inputs import InputScales
from bayesgen.models.search.landscape import Landscape
from bayesgen.models.search.multistart import Rung
from bayesgen.models.search.space import (
    Space,
    kernel_box,
    log_variances,
    mean_diagonal,
    noise_box,
    positive_mean_square,
    scale_box,
)
from bayesgen.models.search.subset import subset

# Number of settings that a Gaussian evidence ranks for each start, and of those that go on.
_SCREENED, _RANKED = 24, 3
# Number of points of the first stage.
_FEW = 120
_ROUGH = Stop(gain=0.05, evaluations=12)
_CLOSE = Stop(gradient=1e-3, gain=2e-3, evaluations=100)
# Steps of the climbs of one task that a progress report expects at first.
_STEPS = 60
# Outputscales that are tried, in units of the variance of a rough guess of the latent values.
_SCALES = (0.3, 3.0, 30.0)
# Shares of noise that are tried where the likelihood has a noise variance.
_NOISES = (1e-4, 0.01, 0.3)
# One of this number of draws has shorter length-scales where there is no noise variance, and the
# largest logarithm of the factor.
_INDEPENDENT, _SHORTER = 4, math.log(5.0)
# Distance below the best value, in nats, within which settings far from the best are climbed too.
_IN_REACH = 6.0
# Number of climbs that start from different local maxima of the settings tried: on few points,
# where a climb is cheap and there are more maxima, that number of points, and on more points.
_PEAKS, _SMALL, _FEWER = 6, 60, 2
# Largest number of times that the search continues from a better mode of the latent functions, and
# the gain in nats that is worth it.
_AGAIN, _GAIN = 3, 0.01

R = TypeVar("R")


class LaplaceObjective:
    """Laplace's log marginal likelihood as a function of z = (θ, log s[, log σ²]).

    Newton's method starts from the mode at the nearest of the last points.

    Args:
        gram: prior covariance on the inputs.
        likelihood: likelihood of the targets.
        y: targets of one task in the likelihood's inner form, (n, C).
    """

    def __init__(self, gram: Gram, likelihood: Likelihood, y: Tensor) -> None:
        self.evidence = LaplaceEvidence(gram, likelihood, y)
        self.likelihood, self.y, self.size = likelihood, y, len(y)
        self._known: list[tuple[np.ndarray, list[Start]]] = []

    def split(self, z: np.ndarray) -> tuple[Tensor, Tensor, Tensor | None]:
        """Kernel parameters, outputscale and log noise at z (P,)."""
        has_noise = self.likelihood.log_noise is not None
        p = len(z) - 1 - has_noise
        log_noise = self.y.new_tensor(z[p + 1]) if has_noise else None
        return self.y.new_tensor(z[:p]), self.y.new_tensor(z[p]).exp(), log_noise

    def __call__(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values (S,) and gradients (S, P) at z (S, P); see `multistart.Objective`."""
        values, gradients = np.full(len(z), np.nan), np.full(z.shape, np.nan)
        failure: Exception | None = None
        for k, one in enumerate(z):
            try:
                values[k], gradients[k] = self._near(one, self.evidence)
            except (ValueError, NotConvergedError) as err:
                failure = err
        if failure is not None and not np.isfinite(values).any():
            raise failure
        return values, gradients

    def _near(self, z: np.ndarray, function: Callable[..., R]) -> R:
        """The function of the setting at z, computed from the nearest of the last modes."""
        self.start_near(z)
        result = function(*self.split(z))
        self._known = [*self._known[-11:], (z, self.evidence.last)]
        return result

    def start_near(self, z: np.ndarray) -> None:
        """Let Newton's method start next from the mode at the nearest of the last points."""
        if self._known:
            nearest = min(self._known, key=lambda item: float(np.abs(item[0] - z).max()))
            self.evidence.start_from(nearest[1])

    def only_from(self, z: np.ndarray, modes: list[Mode]) -> None:
        """Let Newton's method start next from these modes at z, and forget all others."""
        self._known = [(z, [Start(m.f, m.a) for m in modes])]

    def values(self, z: np.ndarray) -> np.ndarray:
        """Values (S,) at z (S, P), NaN where there is none."""
        result = np.full(len(z), np.nan)
        for k, one in enumerate(z):
            with contextlib.suppress(ValueError, NotConvergedError):
                result[k] = self._near(one, self.evidence.value)
        return result

    def curvatures(self, z: np.ndarray) -> None:
        """Laplace's evidence has no Fisher information in closed form."""


class LaplaceSearch:
    """The search of one task over the hyperparameters of one prior covariance.

    Scales and noises start relative to the size of the targets, and their ranges are relative to
    it, so that the search does not depend on the unit of real targets.

    Args:
        gram: prior covariance on the inputs.
        likelihood: likelihood of the targets.
        y: targets in the likelihood's inner form, (n, C).
        scale: outputscale to keep or to start from.
        free: hyperparameters to learn.
        starts: number of starts that are climbed; with 1, only the given kernel is.
        seed: seed of the draws.
    """

    def __init__(
        self,
        gram: Gram,
        likelihood: Likelihood,
        y: Tensor,
        scale: float,
        free: Free,
        starts: int,
        seed: int,
    ) -> None:
        self.gram, self.likelihood, self.y, self.free = gram, likelihood, y, free
        self.starts, self.seed = starts, seed
        self.peaks = _PEAKS if len(y) <= _SMALL else _FEWER
        guess = likelihood.latent_guess(y)
        self.inputs = InputScales(gram.x, guess)
        self.unit = _unit(likelihood, guess)
        self.noise = None if likelihood.log_noise is None else float(likelihood.log_noise)
        theta = gram.start().double().cpu().numpy()
        log_noise = [] if self.noise is None else [self.noise]
        self.start = np.array([*theta, math.log(scale), *log_noise])
        self.space = self._space()

    def _space(self) -> Space:
        free, p = self.free, len(self.gram.start())
        if isinstance(self.gram, KernelGram) and free.kernel:
            rescaled = self.gram.coordinates.rescaled()
            variance = 1.0 if rescaled is None else self.unit
            low, high = kernel_box(self.gram.coordinates, self.inputs, variance)
        else:
            rescaled, (low, high) = None, self._decays()
        learn_scale = free.scale and rescaled is None
        s_box = scale_box(self.unit, mean_diagonal(self.gram), self.inputs)
        ends = [s_box] + ([] if self.noise is None else [noise_box(self.unit)])
        learn = [free.kernel] * p + [learn_scale] + [free.noise] * (len(ends) - 1)
        box = Box(
            np.array(learn),
            np.array([*low, *(end[0] for end in ends)]),
            np.array([*high, *(end[1] for end in ends)]),
        )
        return Space(box, [p] if learn_scale else rescaled, p)

    def _decays(self) -> tuple[np.ndarray, np.ndarray]:
        """The box of θ of a linear model, which is the range of decays that its prior has."""
        wide = np.full(len(self.gram.start()), np.inf)
        if not isinstance(self.gram, FeatureGram) or self.gram.prior.decay is None:
            return -wide, wide
        prior = self.gram.prior
        points = [prior.coordinate(v) for v in prior.search]
        return np.array([min(points)]), np.array([max(points)])

    def best(self, number: int = 0, tasks: int = 1, progress: Progress | None = None) -> LatentFit:
        """The setting of largest Laplace evidence, and the modes there.

        Climbs follow one mode of the latent functions. Where another mode is better at the end of
        the search, the search continues from there.

        Args:
            number: number of the task, for progress reports.
            tasks: number of all tasks.
            progress: called as progress(done, expected, what).

        Raises:
            ValueError, NotConvergedError: no mode was found from any start.
        """
        whole = LaplaceObjective(self.gram, self.likelihood, self.y)
        box = self.space.box
        if not box.learn.any():
            at = whole.split(self.start)
            return LatentFit(LatentSetting(self.gram, *at), *whole.evidence.modes(*at), None)
        candidates, kept, rungs = self._prepared(whole)
        report = multistart.reporter(progress, number, tasks, _STEPS)
        found = multistart.search(candidates, kept, rungs, box, report)
        for _ in range(_AGAIN + 1):
            point = found[0].point
            at = whole.split(point)
            whole.start_near(point)
            modes, different = whole.evidence.modes(*at)
            fit = LatentFit(
                LatentSetting(self.gram, *at),
                modes,
                different,
                Landscape(found, box.at_bound(point)),
            )
            if fit.log_evidence < found[0].value + _GAIN:
                break
            whole.only_from(point, modes)
            again = multistart.search([], [point], [Rung(whole, 0, _CLOSE)], box, report)
            found = sorted([*again, *found], key=lambda mode: -mode.value)
        return fit

    def _prepared(
        self, whole: LaplaceObjective
    ) -> tuple[list[np.ndarray], list[np.ndarray], list[Rung]]:
        """Candidates in falling order, the given start, and the stages."""
        box = self.space.box
        own = self._with_scales(self.start[None])
        # The sizes of a user's kernel have the unit of latent values, which labels and counts fix.
        given = [] if self.likelihood.density else [box.clip(self.start)]
        if self.starts == 1:
            kept = given or [own[_highest(whole.values(own))]]
            return [], kept, [Rung(whole, 0, _CLOSE)]
        few, near = self._few(whole)
        drawn = self._drawn()
        if isinstance(few, KernelGram):
            drawn = self._by_guess(few, near.y, drawn)
        others = self._with_scales(drawn)
        tried = np.concatenate([others, own])
        values = near.values(tried)
        values = np.where(np.isfinite(values), values, -np.inf)
        given.append(own[_highest(values[len(others) :])])
        # The best sizes and noises of each kernel, and then all others.
        each = values[: len(others)].reshape(len(drawn), -1)
        best = np.arange(len(drawn)) * each.shape[1] + each.argmax(1)
        first = [
            best[k] for k in _peaks_first(drawn[:, : self.space.size], values[best], self.peaks)
        ]
        order = np.argsort(-values, kind="stable")
        later = [k for k in order if values[k] > -np.inf and k not in set(first)]
        candidates = [tried[k] for k in (*first, *later)]
        rungs = [Rung(near, self.starts, _ROUGH), Rung(whole, max(2, self.starts // 2), _CLOSE)]
        return candidates, given, rungs

    def _few(self, whole: LaplaceObjective) -> tuple[Gram, LaplaceObjective]:
        """The prior covariance and the objective on few of the points."""
        rows = subset(self.gram.x, _FEW, np.random.default_rng(self.seed))
        if rows is None or not isinstance(self.gram, KernelGram):
            return self.gram, whole
        few = self.gram.on(self.gram.x[rows])
        return few, LaplaceObjective(few, self.likelihood, self.y[rows])

    def _drawn(self) -> np.ndarray:
        """Draws of the settings, (N, P), with the given scale and noise."""
        p, gram = self.space.size, self.gram
        count = _SCREENED * self.starts if self.free.kernel and p else 1
        z = np.tile(self.start, (count, 1))
        if self.free.kernel and isinstance(gram, KernelGram):
            variance = 1.0 if self.space.box.learn[p] else self.unit
            draws = Draws(gram.coordinates, self.start[:p], self.inputs, variance, self.seed)
            z[:, :p] = draws.sample(count)
            if self.noise is None:
                self._shorten(z)
        elif self.free.kernel and isinstance(gram, FeatureGram) and p:
            grid = [gram.prior.coordinate(v) for v in gram.prior.search]
            z = np.tile(self.start, (len(grid), 1))
            z[:, 0] = grid
        return self.space.box.clip(z)

    def _shorten(self, z: np.ndarray) -> None:
        """Shorten the length-scales of some draws below the distances of the inputs.

        A likelihood without noise variance may need latent values that are nearly independent.
        """
        assert isinstance(self.gram, KernelGram)
        random, some = np.random.default_rng([self.seed, 2]), z[::_INDEPENDENT]
        shift = random.uniform(0.0, _SHORTER, (len(some), 1))
        for p in self.gram.coordinates.parameters:
            if p.role == LENGTH:
                some[:, p.where] -= shift

    def _shifts(self) -> list[tuple[float, float | None]]:
        """Logarithms of the size of the prior, with log σ², that are tried with each kernel."""
        box, p, unit = self.space.box, self.space.size, math.log(self.unit)
        scaled = self.space.rescaled is not None
        scales = [unit + math.log(v) for v in _SCALES] if scaled else [0.0]
        noises: list[float | None] = [None]
        if self.noise is not None and box.learn[p + 1]:
            noises = [unit + math.log(v) for v in _NOISES]
        return [(s, noise) for s in scales for noise in noises]

    def _with_scales(self, drawn: np.ndarray) -> np.ndarray:
        """Each draw with several sizes of the prior and noises, (N · tries, P)."""
        p, result = self.space.size, []
        sizes = log_variances(self.gram, drawn[:, :p]) + drawn[:, p]
        for z, size in zip(drawn, sizes, strict=True):
            for log_scale, log_noise in self._shifts():
                one = z.copy()
                if self.space.rescaled is not None:
                    one[self.space.rescaled] += log_scale - size
                if log_noise is not None:
                    one[p + 1] = log_noise
                result.append(one)
        return self.space.box.clip(np.stack(result))

    def _by_guess(self, few: Gram, y: Tensor, drawn: np.ndarray) -> np.ndarray:
        """The draws that are promising by the Gaussian evidence of a guess of the latent values."""
        guess = self.likelihood.latent_guess(y).double()
        n, C = guess.shape
        values = np.full(len(drawn), -np.inf)
        for k, z in enumerate(drawn):
            K = few.matrix(y.new_tensor(z[: self.space.size])).double()
            diagonal = float(K.diagonal().mean())
            if not diagonal > 0:
                continue
            for share in (0.03, 0.3, 3.0):
                A = K / diagonal
                A.diagonal().add_(share)
                lower, info = torch.linalg.cholesky_ex(A)
                if int(info):
                    continue
                half = torch.linalg.solve_triangular(lower, guess, upper=False)
                size = float(half.square().sum().clamp(min=1e-290)) / (n * C)
                logdet = 2 * float(lower.diagonal().log().sum())
                values[k] = max(values[k], -0.5 * C * (n * math.log(size) + logdet))
        order, count = _peaks_first(drawn, values, self.peaks), _RANKED * self.starts
        # The guess is rough: a half of the draws are spread over all ranks.
        rest = order[count - count // 2 :]
        step = max(1, len(rest) // max(1, count // 2))
        return drawn[[*order[: count - count // 2], *rest[::step][: count // 2]]]


def _unit(likelihood: Likelihood, guess: Tensor) -> float:
    """Typical square of the latent values, from a guess of them, (n, C).

    Those of labels are of order 1. Those of counts are too, but for a common factor of the counts,
    which a prior of mean zero takes for variance. Those of real targets have the targets' unit.
    """
    if likelihood.density:
        return _typical_square(guess)
    return 1.0 if likelihood.labels else max(1.0, positive_mean_square(guess))


def _peaks_first(points: np.ndarray, values: np.ndarray, most: int) -> list[int]:
    """Indices of points in falling order of their values, with those of local maxima first.

    The best points alone may all lead to one local maximum. A point is taken for a local maximum
    where its nearest neighbours are lower.

    Args:
        points: settings, (N, P).
        values: their values, (N,), −∞ where there is none.
        most: largest number of local maxima.
    """
    order = [k for k in np.argsort(-values, kind="stable").tolist() if values[k] > -np.inf]
    moved = points[:, np.ptp(points, axis=0) > 0]
    count = 2 * moved.shape[1] + 1  # with the point itself
    if not order or not 1 < count < len(points):
        return order
    distances = np.abs(moved[:, None] - moved).max(-1)
    nearest = np.argpartition(distances, count - 1, axis=1)[:, :count]
    top = values >= values[nearest].max(1)
    near = values > values[order[0]] - _IN_REACH
    peaks = [k for k in order if top[k] and near[k]][:most]
    return [*peaks, *(k for k in order if k not in peaks)]


def _highest(values: np.ndarray) -> int:
    """Index of the largest of some values, of which some may be NaN."""
    return int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))


def _typical_square(y: Tensor) -> float:
    """Median square of the targets, which outliers do not change; their mean where it is 0."""
    middle = float(y.double().square().median())
    return middle if middle > 0 else positive_mean_square(y)

"""Search the hyperparameters of largest Laplace evidence: screen, climb, finish."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from bayesgen._internal.progress import Progress
from bayesgen.covariance.gram import Gram, KernelGram
from bayesgen.covariance.linear import FeatureGram
from bayesgen.errors import NotConvergedError
from bayesgen.likelihoods.likelihood import Likelihood
from bayesgen.models.hyperparameters import Free
from bayesgen.models.latent import Mode
from bayesgen.models.latent.objective import LaplaceEvidence
from bayesgen.models.latent.posterior import LatentSetting
from bayesgen.models.search import multistart
from bayesgen.models.search.ascent import Box, Stop
from bayesgen.models.search.draws import Draws
from bayesgen.models.search.inputs import InputScales
from bayesgen.models.search.landscape import Landscape
from bayesgen.models.search.multistart import LocalMaximum, Rung
from bayesgen.models.search.space import (
    Space,
    kernel_box,
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
_NOISES = (0.01, 0.3)


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
        self._known: list[tuple[np.ndarray, list[Tensor]]] = []

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
            self.start_near(one)
            try:
                values[k], gradients[k] = self.evidence(*self.split(one))
            except (ValueError, NotConvergedError) as err:
                failure = err
                continue
            self._known = [*self._known[-11:], (one, self.evidence.last)]
        if failure is not None and not np.isfinite(values).any():
            raise failure
        return values, gradients

    def start_near(self, z: np.ndarray) -> None:
        """Let Newton's method start next from the mode at the nearest of the last points."""
        if self._known:
            nearest = min(self._known, key=lambda item: float(np.abs(item[0] - z).max()))
            self.evidence.start_from(nearest[1])

    def values(self, z: np.ndarray) -> np.ndarray:
        """Values (S,) at z (S, P), NaN where there is none."""
        try:
            return self(z)[0]
        except (ValueError, NotConvergedError):
            return np.full(len(z), np.nan)

    def curvatures(self, z: np.ndarray) -> None:
        """Laplace's evidence has no Fisher information in closed form."""


class LaplaceSearch:
    """The search of all tasks of one prior covariance, which share the draws of its parameters.

    Args:
        gram: prior covariance on the inputs.
        likelihood: likelihood of the targets.
        y: targets in the likelihood's inner form, (B, n, C).
        scale: outputscale to keep or to start from.
        free: hyperparameters to learn.
        starts: number of starts that are climbed; with 1, only the given values are.
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
        guesses = torch.stack([likelihood.latent_guess(task) for task in y])
        self.inputs = InputScales(gram.x, guesses)
        # Latent values of labels and counts are of order 1; those of real targets have their unit.
        self.unit = _typical_square(guesses) if likelihood.density else 1.0
        self.noise = None if likelihood.log_noise is None else float(likelihood.log_noise)
        theta = gram.start().double().cpu().numpy()
        log_noise = [] if self.noise is None else [self.noise]
        self.start = np.array([*theta, math.log(scale), *log_noise])
        self.variance = mean_diagonal(gram)
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
        s_box = scale_box(self.unit, self.variance, self.inputs)
        ends = [s_box] + ([] if self.noise is None else [noise_box(self.unit)])
        learn = [free.kernel] * p + [learn_scale] + [free.noise] * (len(ends) - 1)
        box = Box(
            np.array(learn),
            np.array([*low, *(end[0] for end in ends)]),
            np.array([*high, *(end[1] for end in ends)]),
        )
        return Space(box, rescaled, p)

    def _decays(self) -> tuple[np.ndarray, np.ndarray]:
        """The box of θ of a linear model, which is the range of decays that its prior has."""
        wide = np.full(len(self.gram.start()), np.inf)
        if not isinstance(self.gram, FeatureGram) or self.gram.prior.decay is None:
            return -wide, wide
        prior = self.gram.prior
        points = [prior.coordinate(v) for v in prior.search]
        return np.array([min(points)]), np.array([max(points)])

    def best(
        self, b: int, progress: Progress | None = None
    ) -> tuple[LatentSetting, list[Mode], list[LocalMaximum]]:
        """The setting of largest Laplace evidence of one task, and the modes of the search.

        Returns:
            The setting, the modes of the latent functions there, and the local maxima of the
            evidence, the best first.

        Raises:
            ValueError, NotConvergedError: no mode was found from any start.
        """
        whole = LaplaceObjective(self.gram, self.likelihood, self.y[b])
        if not self.space.box.learn.any():
            at = whole.split(self.start)
            return LatentSetting(self.gram, *at), whole.evidence.modes(*at), []
        candidates, kept, rungs = self._prepared(b, whole)
        report = multistart.reporter(progress, b, len(self.y), _STEPS)
        found = multistart.search(candidates, kept, rungs, self.space.box, report)
        at = whole.split(found[0].point)
        whole.start_near(found[0].point)
        return LatentSetting(self.gram, *at), whole.evidence.modes(*at), found

    def landscape(self, modes: list[LocalMaximum]) -> Landscape | None:
        """The landscape of the modes that `best` found, or None where nothing was searched."""
        return Landscape(modes, self.space.box.at_bound(modes[0].point)) if modes else None

    def _prepared(
        self, b: int, whole: LaplaceObjective
    ) -> tuple[list[np.ndarray], list[np.ndarray], list[Rung]]:
        """Candidates in falling order, the given start, and the stages of one task."""
        box = self.space.box
        if self.starts == 1:
            return [], [box.clip(self.start)], [Rung(whole, 0, _CLOSE)]
        few, near = self._few(b, whole)
        drawn = self._drawn()
        if isinstance(few, KernelGram):
            drawn = self._by_guess(few, near.y, drawn)[: _RANKED * self.starts]
        others, given = self._with_scales(drawn), self._with_scales(self.start[None])
        tried = np.concatenate([others, given])
        values = near.values(tried)
        values = np.where(np.isfinite(values), values, -np.inf)
        own = len(others) + int(np.argmax(values[len(others) :]))
        order = np.argsort(-values, kind="stable")
        candidates = [tried[k] for k in order if values[k] > -np.inf]
        rungs = [Rung(near, self.starts, _ROUGH), Rung(whole, max(2, self.starts // 2), _CLOSE)]
        return candidates, [box.clip(self.start), tried[own]], rungs

    def _few(self, b: int, whole: LaplaceObjective) -> tuple[Gram, LaplaceObjective]:
        """The prior covariance and the objective on few of the points."""
        rows = subset(self.gram.x, _FEW, np.random.default_rng(self.seed))
        if rows is None or not isinstance(self.gram, KernelGram):
            return self.gram, whole
        few = self.gram.on(self.gram.x[rows])
        return few, LaplaceObjective(few, self.likelihood, self.y[b][rows])

    def _drawn(self) -> np.ndarray:
        """Draws of the settings, (N, P), with the given scale and noise."""
        p, gram = self.space.size, self.gram
        count = _SCREENED * self.starts if self.free.kernel and p else 1
        z = np.tile(self.start, (count, 1))
        if self.free.kernel and isinstance(gram, KernelGram):
            variance = self.unit if self.space.rescaled is not None else 1.0
            draws = Draws(gram.coordinates, self.start[:p], self.inputs, variance, self.seed)
            z[:, :p] = draws.sample(count)
        elif self.free.kernel and isinstance(gram, FeatureGram) and p:
            grid = [gram.prior.coordinate(v) for v in gram.prior.search]
            z = np.tile(self.start, (len(grid), 1))
            z[:, 0] = grid
        return self.space.box.clip(z)

    def _shifts(self) -> list[tuple[float, float | None]]:
        """Logarithms of the factors of the scale, with log σ², that are tried with each kernel."""
        box, p = self.space.box, self.space.size
        scaled = bool(box.learn[p]) or self.space.rescaled is not None
        scales = [math.log(v) for v in _SCALES] if scaled else [0.0]
        noises: list[float | None] = [None]
        if self.noise is not None and box.learn[p + 1]:
            noises = [math.log(v * self.unit) for v in _NOISES]
        return [(s, noise) for s in scales for noise in noises]

    def _with_scales(self, drawn: np.ndarray) -> np.ndarray:
        """Each draw with several outputscales and noises, (N · tries, P)."""
        p, result = self.space.size, []
        for z in drawn:
            for shift, log_noise in self._shifts():
                one = z.copy()
                if self.space.box.learn[p]:
                    one[p] = math.log(self.unit / self.variance) + shift
                elif self.space.rescaled is not None:
                    one[self.space.rescaled] += shift
                if log_noise is not None:
                    one[p + 1] = log_noise
                result.append(one)
        return self.space.box.clip(np.stack(result))

    def _by_guess(self, few: Gram, y: Tensor, drawn: np.ndarray) -> np.ndarray:
        """Draws in falling order of the Gaussian evidence of a rough guess of the latent values."""
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
        return drawn[np.argsort(-values, kind="stable")]


def _typical_square(y: Tensor) -> float:
    """Median square of the targets, which outliers do not change; their mean where it is 0."""
    middle = float(y.double().square().median())
    return middle if middle > 0 else positive_mean_square(y)

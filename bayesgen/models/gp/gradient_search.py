"""Maximise the evidence over the parameters of any kernel: screen, climb, finish.

Settings of the kernel are drawn by the roles of its parameters and ranked by their evidence on a
few of the points. Climbs on the exact gradient start from the best of them, on few points first.
The best mode on all points is finished until its gradient vanishes. The search runs in float64, in
the logarithms of all positive parameters, so that it does not depend on the units of the data.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bayesgen._internal.progress import Progress
from bayesgen.covariance.gram import Gram, KernelGram
from bayesgen.models.gp.objective import LogMarginalLikelihood, is_per_point
from bayesgen.models.gp.problem import GPSetting, Problem
from bayesgen.models.search import multistart, space as spaces
from bayesgen.models.search.ascent import Stop
from bayesgen.models.search.draws import Draws
from bayesgen.models.search.inputs import InputScales
from bayesgen.models.search.multistart import Mode, Rung
from bayesgen.models.search.space import Space
from bayesgen.models.search.subset import subset

# Numbers of points of the stages before all points are used.
_FEW, _SOME = 120, 500
# Stages: evaluations of one climb on few and on some points, and predicted gain that ends a climb.
_ROUGH = Stop(gain=0.05, evaluations=12)
_MEDIUM = Stop(gain=0.05, evaluations=30)
_CLOSE = Stop(gradient=1e-3, gain=2e-3, evaluations=100)
# Number of climbs on all of many points.
_ON_MANY = 2
# Range of the logarithm of the share of noise in the variance that is drawn.
_NOISE = (math.log(1e-4), math.log(3.0))
# Shares of noise that are tried with the user's own kernel.
_OWN = (1e-3, 0.1, 1.0)


class GaussianObjective:
    """The log marginal likelihood of one task as a function of z = (θ, log s, log σ²).

    Args:
        gram: kernel on the inputs.
        y: targets, (n, C).
        noise: noise variance per point to keep, (n,) or (n, C), or None where σ² is in z.
        few: indices of some points, on which the Fisher information is computed; None for all.
    """

    def __init__(
        self, gram: KernelGram, y: Tensor, noise: Tensor | None, few: Tensor | None = None
    ) -> None:
        self.gram, self.y, self.noise = gram, y, noise
        self.objective = LogMarginalLikelihood(gram, y)
        self._few: LogMarginalLikelihood | None = None
        self._subset = few

    def split(self, z: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Kernel parameters, outputscale and noise at z."""
        p = len(z) - 2
        noise = self.y.new_tensor(z[p + 1]).exp() if self.noise is None else self.noise
        return self.y.new_tensor(z[:p]), self.y.new_tensor(z[p]).exp(), noise

    def __call__(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        """Value in nats and gradient."""
        with _without_jitter_warnings():
            result = self.objective(*self.split(z))
        slope = [*result.kernel.tolist(), float(result.log_scale), float(result.log_noise)]
        return float(result.value), np.array(slope)

    def value(self, z: np.ndarray) -> float:
        """Value in nats."""
        with _without_jitter_warnings():
            return self.objective.value(*self.split(z))

    def curvature(self, z: np.ndarray) -> np.ndarray:
        """Fisher information, from some of the points where there are many."""
        theta, scale, noise = self.split(z)
        with _without_jitter_warnings():
            if self._subset is None:
                return self.objective.fisher(theta, scale, noise).cpu().numpy()
            if self._few is None:
                small = self.gram.on(self.gram.x[self._subset])
                self._few = LogMarginalLikelihood(small, self.y[self._subset])
            noise = noise[self._subset] if noise.ndim else noise
            some = self._few.fisher(theta, scale, noise).cpu().numpy()
        return some * (len(self.y) / len(self._subset))


class _without_jitter_warnings(warnings.catch_warnings):
    """Ignores jitters on the way; that at the optimum is reported."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.filterwarnings("ignore", message="the covariance is singular")


@dataclass(frozen=True)
class _Tasks:
    """What all tasks of a search share.

    Attributes:
        gram: kernel on the inputs, in float64.
        y: targets, (B, n, C), in float64.
        noise: noise variances per point, broadcastable with (B, n, C), or None.
        start: the user's own hyperparameters z, (P,).
        space: which parameters are learnt, and their box.
    """

    gram: KernelGram
    y: Tensor
    noise: Tensor | None
    start: np.ndarray
    space: Space

    def noise_of(self, b: int) -> Tensor | None:
        """Noise variance per point of one task, (n,) or (n, C), or None."""
        if self.noise is None:
            return None
        own = self.noise[min(b, len(self.noise) - 1)]
        return own.expand(self.y.shape[1], -1).contiguous()

    def on(self, rows: Tensor | None) -> _Tasks:
        """The same on some of the points."""
        if rows is None:
            return self
        noise = self.noise
        if noise is not None and noise.shape[1] > 1:
            noise = noise[:, rows]
        small = self.gram.on(self.gram.x[rows])
        return _Tasks(small, self.y[:, rows], noise, self.start, self.space)


@dataclass(frozen=True)
class Landscapes:
    """The local maxima of the evidence of each task.

    Attributes:
        modes: the modes of each task, the best first.
        space: the searched space.
    """

    modes: list[list[Mode]]
    space: Space

    def at_bound(self) -> Tensor:
        """Whether a learnt parameter of each task's best mode lies on the edge of the box, (B,)."""
        return torch.tensor([bool(self.space.at_bound(m[0].point).any()) for m in self.modes])


def search(
    problem: Problem, *, starts: int = 6, seed: int = 0, progress: Progress | None = None
) -> Landscapes:
    """The modes of the evidence of each task that the search found, the best first.

    Args:
        problem: the problem to solve.
        starts: number of starts that are climbed, besides the user's own; for more than 500 points
            two of them are climbed on all points. With 1, only the user's own values are climbed.
        seed: seed of the draws.
        progress: called as progress(done, expected, what) after each evaluation.

    Returns:
        The modes of each of the B tasks, whose points are (θ, log s, log σ²).
    """
    tasks, inputs = _tasks(problem)
    B, n = len(tasks.y), tasks.y.shape[1]
    random = np.random.default_rng(seed)
    few = subset(tasks.gram.x, _FEW, random)
    some = subset(tasks.gram.x, _SOME, random)
    small, middle = tasks.on(few), tasks.on(some)
    draws = _drawn(tasks, inputs, multistart.SCREENED * starts if starts > 1 else 0, seed)
    values, draws = _screened(small, draws)
    found = []
    for b in range(B):
        report = _reporter(progress, b, B)
        candidates = _ranked(draws[b], values[b], 2 * starts) if starts > 1 else []
        kept = [_own_start(small, b)]
        whole = GaussianObjective(tasks.gram, tasks.y[b], tasks.noise_of(b), few)
        rungs = [Rung(whole, starts if n <= _SOME else _ON_MANY, _CLOSE)]
        if starts > 1:
            near = GaussianObjective(small.gram, small.y[b], small.noise_of(b))
            stages = [Rung(near, 2 * starts, _ROUGH)]
            if n > _SOME:
                centre = GaussianObjective(middle.gram, middle.y[b], middle.noise_of(b), few_of(few, some))
                stages.append(Rung(centre, starts, _MEDIUM))
            rungs = stages + rungs
        found.append(multistart.search(candidates, kept, rungs, tasks.space, report))
    return Landscapes(found, tasks.space)


def few_of(few: Tensor | None, some: Tensor | None) -> Tensor | None:
    """Positions in a larger subset of the first points of it, as many as a smaller one has."""
    return None if few is None or some is None else torch.arange(len(some))[: len(few)]


def _tasks(problem: Problem) -> tuple[_Tasks, InputScales]:
    """The problem in float64 on its device, with the box of its search."""
    given, free = problem.given, problem.free
    x = problem.gram.x.detach().double()
    matrices = problem.gram if problem.gram.x.dtype == torch.float64 else problem.gram.on(x)
    y = problem.y.detach().double()
    per_point = is_per_point(given.noise)
    noise = given.noise.double() if per_point else None
    inputs = InputScales(x, y)
    size = spaces.positive_mean_square(y)
    rescaled = matrices.coordinates.rescaled() if free.kernel else None
    # Where every term has a variance of its own, a common scale would be one parameter too many.
    learn_scale = free.scale and rescaled is None
    theta = matrices.start().double().cpu().numpy()
    p = len(theta)
    learn = np.array([free.kernel] * p + [learn_scale, free.noise and not per_point])
    variance = size if not learn_scale else 1.0
    low, high = spaces.kernel_box(matrices.coordinates, inputs, variance)
    diagonal = _mean_diagonal(matrices, matrices.start())
    s_box = spaces.scale_box(size, diagonal)
    n_box = spaces.noise_box(size)
    log_noise = 0.0 if per_point else math.log(float(given.noise.reshape(-1)[0]))
    start = np.array([*theta, math.log(float(given.scale)), log_noise])
    space = Space(
        learn,
        np.array([*low, s_box[0], n_box[0]]),
        np.array([*high, s_box[1], n_box[1]]),
        rescaled if rescaled is not None else ([p] if learn_scale else None),
        p,
    )
    return _Tasks(matrices, y, noise, space.clip(start), space), inputs


def _mean_diagonal(gram: Gram, theta: Tensor) -> float:
    some = gram.x[:: max(1, len(gram.x) // 200)]
    mean = float(gram.diagonal(theta, some).double().mean())
    return mean if math.isfinite(mean) and mean > 0 else 1.0


def _drawn(tasks: _Tasks, inputs: InputScales, count: int, seed: int) -> np.ndarray:
    """Settings z to screen, (count, P), shared by all tasks."""
    space, p = tasks.space, tasks.space.size
    z = np.tile(tasks.start, (count, 1))
    if not count:
        return z
    random = np.random.default_rng([seed, 1])
    size = spaces.positive_mean_square(tasks.y)
    if space.learn[:p].any():
        variance = 1.0 if space.learn[p] else size
        theta = tasks.start[:p]
        z[:, :p] = Draws(tasks.gram.coordinates, theta, inputs, variance, seed).sample(count)
        # A part of the draws keeps the user's own values, with noise of other sizes.
        z[: len(_OWN), :p] = theta
    if space.learn[p]:
        diagonal = _mean_diagonal(tasks.gram, tasks.gram.start())
        z[:, p] = math.log(size / diagonal) + random.standard_normal(count)
    if space.learn[p + 1]:
        z[:, p + 1] = math.log(size) + random.uniform(*_NOISE, count)
        z[: len(_OWN), p + 1] = math.log(size) + np.log(_OWN)
    return space.clip(z)


def _screened(tasks: _Tasks, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Evidence of each task at each draw, (B, N), and the draws with scale and noise fitted.

    Where outputscale and noise may both be multiplied by c, the best c is known in closed form:
    c = yᵀA⁻¹y / (nC).

    Returns:
        The values, −∞ where there is none, and the settings of each task, (B, N, P).
    """
    space, y = tasks.space, tasks.y
    B, n, C = y.shape
    values = np.full((B, len(draws)), -np.inf)
    fitted = np.tile(draws, (B, 1, 1))
    p = space.size
    joint = space.rescaled is not None and space.learn[p + 1]
    columns = y.movedim(0, 1).reshape(n, B * C)
    for k, z in enumerate(draws):
        if tasks.noise is not None:
            for b in range(B):
                values[b, k] = _value_or_none(tasks, b, z)
            continue
        theta = y.new_tensor(z[:p])
        A = tasks.gram.matrix(theta).mul_(math.exp(z[p]))
        A.diagonal().add_(math.exp(z[p + 1]))
        lower, info = torch.linalg.cholesky_ex(A)
        if int(info):
            continue
        half = torch.linalg.solve_triangular(lower, columns, upper=False)
        quadratic = half.square().sum(0).reshape(B, C).sum(1).cpu().numpy()
        logdet = 2 * float(lower.diagonal().log().sum())
        if not math.isfinite(logdet) or not np.isfinite(quadratic).all():
            continue
        log_c = np.zeros(B)
        if joint:
            log_c = np.log(np.maximum(quadratic, 1e-300) / (n * C))
            fitted[:, k, [*space.rescaled, p + 1]] += log_c[:, None]
            fitted[:, k] = space.clip(fitted[:, k])
        rest = quadratic * np.exp(-log_c) + C * (logdet + n * log_c)
        values[:, k] = -0.5 * (rest + n * C * math.log(2 * math.pi))
    return values, fitted


def _value_or_none(tasks: _Tasks, b: int, z: np.ndarray) -> float:
    objective = GaussianObjective(tasks.gram, tasks.y[b], tasks.noise_of(b))
    try:
        return objective.value(z)
    except ValueError:
        return -math.inf


def _ranked(draws: np.ndarray, values: np.ndarray, most: int) -> list[np.ndarray]:
    """The best draws of a task, in falling order of their evidence."""
    order = np.argsort(-values, kind="stable")[:most]
    return [draws[k] for k in order if np.isfinite(values[k])]


def _own_start(tasks: _Tasks, b: int) -> np.ndarray:
    """The user's kernel with the best of a few outputscales and noises for one task."""
    one = _Tasks(tasks.gram, tasks.y[b : b + 1], None, tasks.start, tasks.space)
    if tasks.noise is not None:
        noise = tasks.noise[min(b, len(tasks.noise) - 1)][None]
        one = _Tasks(tasks.gram, tasks.y[b : b + 1], noise, tasks.start, tasks.space)
    space, p = tasks.space, tasks.space.size
    size = spaces.positive_mean_square(one.y)
    grid = np.array(_OWN) if space.learn[p + 1] else np.ones(1)
    z = np.tile(tasks.start, (len(grid), 1))
    diagonal = _mean_diagonal(tasks.gram, tasks.gram.start())
    if space.learn[p]:
        z[:, p] = math.log(size / diagonal)
    if space.learn[p + 1]:
        # The noise is relative to the kernel's own variance, as both are then fitted together.
        z[:, p + 1] = z[:, p] + math.log(diagonal) + np.log(grid)
    values, fitted = _screened(one, space.clip(z))
    return fitted[0, int(np.argmax(values[0]))]


def _reporter(progress: Progress | None, b: int, B: int) -> Callable[[str], None] | None:
    if progress is None:
        return None
    done = 0

    def report(text: str) -> None:
        nonlocal done
        done += 1
        expected = max(150, done + 10)
        progress(b * expected + done, B * expected, f"task {b + 1} of {B}: {text}")

    return report


def setting(problem: Problem, mode: Mode) -> GPSetting:
    """The hyperparameters at a mode, in the dtype of the problem; the noise is (1, 1)."""
    y = problem.y
    p = len(mode.point) - 2
    return GPSetting(
        y.new_tensor(mode.point[:p]),
        y.new_tensor(mode.point[p]).exp(),
        y.new_tensor(mode.point[p + 1]).exp().reshape(1, 1),
    )


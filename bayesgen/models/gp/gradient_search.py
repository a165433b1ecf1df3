"""Maximise the evidence over the parameters of any kernel: screen, climb, finish.

Settings of the kernel are drawn by the roles of its parameters and ranked by their evidence on a
few of the points. Climbs on the exact gradient start from the best of them, on few points first.
The best mode on all points is finished until its gradient vanishes. The search runs in float64, in
the logarithms of all positive parameters, so that it does not depend on the units of the data.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bayesgen._internal.progress import Progress
from bayesgen.covariance.gram import KernelGram
from bayesgen.kernels.parameters import LENGTH
from bayesgen.models.gp.objective import LogMarginalLikelihood, is_per_point
from bayesgen.models.gp.problem import GPSetting, Problem
from bayesgen.models.search import multistart, space as spaces
from bayesgen.models.search.ascent import Box, Stop
from bayesgen.models.search.draws import Draws
from bayesgen.models.search.inputs import InputScales
from bayesgen.models.search.landscape import Landscape
from bayesgen.models.search.multistart import LocalMaximum, Objective, Rung
from bayesgen.models.search.space import Space
from bayesgen.models.search.subset import subset
from bayesgen.spectrum.maximise import ALL_ZERO

# Number of settings that are screened, and of brief climbs, for each start.
_SCREENED, _FIRST = 48, 4
# Number of parameters of a kernel up to which the number of starts is as given, and the number
# above which it does not grow any more.
_PLAIN, _MOST = 5, 15
# Number of points below which such a kernel is searched from more starts.
_ENOUGH = 150
# Number of settings that are screened on all points too, and of those that start there.
_AGAIN, _ADDED = 96, 2
# Numbers of points of the stages before all points are used.
_FEW, _SOME = 120, 500
# Stages: evaluations of one climb on few and on some points, and predicted gain that ends a climb.
_BRIEF = Stop(gain=0.05, evaluations=7)
_ROUGH = Stop(gain=0.05, evaluations=20)
_MEDIUM = Stop(gain=0.05, evaluations=30)
_CLOSE = Stop(gradient=1e-3, gain=0.01, evaluations=100)
# Steps of the climbs of one task that a progress report expects at first.
_STEPS = 150
# Largest number of points for the Fisher information that starts a climb.
_FISHER = 60
# Largest number of points whose settings are evaluated together, and of matrix entries at a time.
_TOGETHER, _ENTRIES = 512, 2**19
# Range of the logarithm of the share of noise in the variance that is drawn.
_NOISE = (math.log(1e-4), math.log(3.0))
# Share of the draws with very little noise beside the prior variance, as smooth kernels may need,
# and the range of its logarithm.
_RARE, _LITTLE = 0.25, (math.log(1e-11), math.log(1e-4))
# Largest difference of the log mean squares of tasks that are searched together.
_SIMILAR = math.log(10.0)
# Shares of noise that are tried with the user's own kernel.
_OWN = (1e-9, 1e-6, 1e-3, 0.1, 1.0)


class GaussianObjective:
    """The log marginal likelihood of one task as a function of z = (θ, log s, log σ²).

    Settings on few points are evaluated together; those that need a jitter, and all settings on
    many points, are evaluated by `LogMarginalLikelihood`.

    Args:
        gram: kernel on the inputs.
        y: targets, (n, C).
        noise: noise variance per point to keep, (n,) or (n, C), or None where σ² is in z.
        few: the same on some of the points, on which the Fisher information is computed; None
            computes it on all.
    """

    def __init__(
        self,
        gram: KernelGram,
        y: Tensor,
        noise: Tensor | None,
        few: GaussianObjective | None = None,
    ) -> None:
        self.gram, self.y, self.noise = gram, y, noise
        self.single, self.size = LogMarginalLikelihood(gram, y), y.numel()
        self._few = few

    def split(self, z: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Kernel parameters, outputscale and noise at z (P,)."""
        p = len(z) - 2
        noise = self.y.new_tensor(z[p + 1]).exp() if self.noise is None else self.noise
        return self.y.new_tensor(z[:p]), self.y.new_tensor(z[p]).exp(), noise

    def __call__(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values in nats (S,) and gradients (S, P) at z (S, P); see `multistart.Objective`."""
        values, gradients = np.full(len(z), np.nan), np.full(z.shape, np.nan)
        failure: ValueError | None = None
        for some in _chunks(len(z), len(self.y)) if self._evaluates_together else []:
            values[some], gradients[some] = self._together(z[some])
        for k in np.flatnonzero(~np.isfinite(values)):
            try:
                values[k], gradients[k] = self._alone(z[k])
            except ValueError as err:
                failure = err
        if failure is not None and not np.isfinite(values).any():
            raise failure
        return values, gradients

    def values(self, z: np.ndarray) -> np.ndarray:
        """Values in nats (S,) at z (S, P), NaN where there is none."""
        result = np.full(len(z), np.nan)
        for k, one in enumerate(z):
            with contextlib.suppress(ValueError), _without_jitter_warnings():
                result[k] = self.single.value(*self.split(one))
        return result

    def curvatures(self, z: np.ndarray) -> np.ndarray:
        """Fisher information (S, P, P) at z (S, P); of many points, some are used."""
        if self._few is not None:
            return self._few.curvatures(z) * (len(self.y) / len(self._few.y))
        if self._evaluates_together:
            # Each setting takes two matrices for each of its parameters.
            size = max(1, _ENTRIES // (2 * z.shape[1] * len(self.y) ** 2))
            parts = [self._fisher(z[k : k + size]) for k in range(0, len(z), size)]
            return np.concatenate(parts)
        result = np.full((*z.shape, z.shape[1]), np.nan)
        for k, one in enumerate(z):
            with contextlib.suppress(ValueError), _without_jitter_warnings():
                result[k] = self.single.fisher(*self.split(one)).cpu().numpy()
        return result

    def _fisher(self, z: np.ndarray) -> np.ndarray:
        """Fisher information at several settings, NaN where the covariance is singular."""
        Z, p = self.y.new_tensor(z), z.shape[1] - 2
        n, C = self.y.shape
        scale = Z[:, p].exp()[:, None, None]
        noise = Z[:, p + 1].exp()[:, None] if self.noise is None else self.noise.reshape(1, n)
        K = self.gram.matrices(Z[:, :p]).mul_(scale)
        A = K.clone()
        A.diagonal(dim1=-2, dim2=-1).add_(noise)
        lower, info = torch.linalg.cholesky_ex(A)
        lower[info > 0] = math.nan
        inverse = torch.cholesky_inverse(lower)[:, None]
        slopes = inverse @ torch.cat([self.gram.tangents(Z[:, :p]) * scale[:, None], K[:, None]], 1)
        each = torch.cat([slopes, inverse * noise[:, None, None, :]], 1)
        rows, columns = each.flatten(2), each.mT.flatten(2)
        return (0.5 * C * (rows @ columns.mT)).cpu().numpy()

    @property
    def _evaluates_together(self) -> bool:
        """Whether several settings are evaluated together: on few points, with one noise."""
        by_output = self.noise is not None and self.noise.ndim == 2 and self.noise.shape[1] > 1
        return len(self.y) <= _TOGETHER and not by_output

    def _together(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values and gradients at several settings, NaN where the covariance is singular."""
        y, p = self.y, z.shape[1] - 2
        n, C = y.shape
        Z = y.new_tensor(z)
        scale = Z[:, p].exp()[:, None, None]
        noise = Z[:, p + 1].exp()[:, None] if self.noise is None else self.noise.reshape(1, n)
        A, pulls = self.gram.with_pulls(Z[:, :p])
        A.mul_(scale).diagonal(dim1=-2, dim2=-1).add_(noise)
        lower, info = torch.linalg.cholesky_ex(A)
        bad = (info > 0) | ~torch.isfinite(lower.diagonal(dim1=-2, dim2=-1)).all(-1)
        if bad.any():
            lower[bad] = torch.eye(n, dtype=y.dtype, device=y.device)
        logdet = 2 * lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        weights = torch.cholesky_inverse(lower)
        alpha = weights @ y
        quadratic = (alpha * y).sum((-2, -1))
        values = -0.5 * (quadratic + C * (logdet + n * math.log(2 * math.pi)))
        weights.mul_(-0.5 * C).add_(0.5 * (alpha @ alpha.mT))
        along_noise = (weights.diagonal(dim1=-2, dim2=-1) * noise).sum(-1)
        along_scale = 0.5 * (quadratic - n * C) - along_noise
        slopes = scale[:, 0] * pulls(weights)
        gradients = torch.cat([slopes, along_scale[:, None], along_noise[:, None]], 1)
        values[bad], gradients[bad] = math.nan, math.nan
        return values.cpu().numpy(), gradients.cpu().numpy()

    def _alone(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient at one setting, with a jitter where rounding needs it."""
        with _without_jitter_warnings():
            result = self.single(*self.split(z))
        slope = [*result.kernel.tolist(), float(result.log_scale), float(result.log_noise)]
        return float(result.value), np.array(slope)


def _chunks(count: int, n: int) -> list[slice]:
    """The settings whose (n, n) matrices are kept at a time."""
    size = max(1, _ENTRIES // (n * n))
    return [slice(start, start + size) for start in range(0, count, size)]


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

    def task(self, b: int) -> _Tasks:
        """The same for one task."""
        noise = None if self.noise is None else self.noise[min(b, len(self.noise) - 1)][None]
        return _Tasks(self.gram, self.y[b : b + 1], noise, self.start, self.space)

    @cached_property
    def few(self) -> _Tasks | None:
        """The same on the points of the Fisher information, or None where these are all."""
        n = self.y.shape[1]
        if n <= _FISHER:
            return None
        return self.on(torch.linspace(0, n - 1, _FISHER).round().long())

    def objective(self, b: int) -> GaussianObjective:
        """The log marginal likelihood of one task."""
        few = None if self.few is None else self.few.objective(b)
        return GaussianObjective(self.gram, self.y[b], self.noise_of(b), few)


def search(
    problem: Problem, *, starts: int = 6, seed: int = 0, progress: Progress | None = None
) -> list[Landscape]:
    """The modes of the evidence of each task that the search found, the best first.

    Args:
        problem: the problem to solve.
        starts: number of starts that are climbed on up to 500 points, for a kernel of up to five
            parameters; more for more parameters. For more points, the best of them is climbed on
            all points. The user's own values are one more. With 1, they are the only start.
        seed: seed of the draws.
        progress: called as progress(done, expected, what) after each evaluation.

    Returns:
        The modes of each of the B tasks, whose points are (θ, log s, log σ²).
    """
    groups = _of_one_size(problem.y)
    if len(groups) > 1:
        found_of: dict[int, Landscape] = {}
        for group in groups:
            noise = problem.given.noise
            given = replace(problem.given, noise=noise if len(noise) == 1 else noise[group])
            part = replace(problem, y=problem.y[group], given=given)
            each = search(part, starts=starts, seed=seed, progress=progress)
            found_of.update(zip(group.tolist(), each, strict=True))
        return [found_of[b] for b in range(len(problem.y))]
    tasks, inputs = _tasks(problem)
    B = len(tasks.y)
    random = np.random.default_rng(seed)
    if starts > 1:
        starts = max(3, math.ceil(starts * _complexity(tasks.gram, tasks.y.shape[1])))
    few = subset(tasks.gram.x, _FEW, random)
    some = subset(tasks.gram.x, _SOME, random)
    small, middle = tasks.on(few), tasks.on(some)
    draws = _drawn(tasks, inputs, _SCREENED * starts if starts > 1 else 0, seed)
    values, draws = _screened(small, draws)
    found = []
    for b in range(B):
        report = multistart.reporter(progress, b, B, _STEPS)
        candidates = _ranked(draws[b], values[b], _FIRST * starts) if starts > 1 else []
        own = _own_start(small, b)
        added: list[np.ndarray] = []
        if starts > 1 and small is not tasks and middle is tasks:
            # A narrow mode, such as a short length-scale, may not be one on few of the points.
            again, fitted = _screened(tasks.task(b), draws[b][:_AGAIN])
            added = _ranked(fitted[0], again[0], _ADDED)
        rungs = _rungs((small, middle, tasks), b, starts, added)
        found.append(multistart.search(candidates, [own], rungs, tasks.space.box, report))
    box = tasks.space.box
    return [Landscape(modes, box.at_bound(modes[0].point)) for modes in found]


def _of_one_size(y: Tensor) -> list[Tensor]:
    """Numbers of tasks in groups of targets of similar size, which share draws and ranges."""
    sizes = [math.log(spaces.positive_mean_square(one)) for one in y]
    order = sorted(range(len(sizes)), key=sizes.__getitem__)
    groups = [[order[0]]]
    for b in order[1:]:
        if sizes[b] - sizes[groups[-1][0]] < _SIMILAR:
            groups[-1].append(b)
        else:
            groups.append([b])
    return [torch.tensor(sorted(group), device=y.device) for group in groups]


def climb(
    problem: Problem,
    points: Sequence[np.ndarray],
    objective: Callable[[GaussianObjective], Objective],
) -> tuple[Landscape, Objective]:
    """The maxima of another objective of the only task that are reached from some points.

    Args:
        problem: the problem to solve.
        points: points (θ, log s, log σ²).
        objective: makes the objective from the log marginal likelihood of the task.

    Returns:
        The maxima, and the objective.
    """
    tasks, _ = _tasks(problem)
    made, box = objective(tasks.objective(0)), tasks.space.box
    modes = multistart.search([], list(points), [Rung(made, len(points), _CLOSE)], box)
    return Landscape(modes, box.at_bound(modes[0].point)), made


def _complexity(gram: KernelGram, n: int) -> float:
    """How many starts the kernel needs, relative to one with few parameters.

    The length-scales of all columns in one kernel count as one parameter: they rarely give rise to
    more modes. A kernel with many parameters has more modes on few points, where a start is cheap.
    """
    count = sum(
        1 if p.role == LENGTH else p.where.stop - p.where.start for p in gram.coordinates.parameters
    )
    if count < _PLAIN:
        return 1.0
    return min(count, _MOST) / _PLAIN * min(max(_ENOUGH / n, 1.0), 3.0)


def _rungs(
    sizes: tuple[_Tasks, _Tasks, _Tasks], b: int, starts: int, added: Sequence[np.ndarray]
) -> list[Rung]:
    """The stages of the search of one task.

    Args:
        sizes: the problem on few points, on some and on all; some of them may be the same.
        b: number of the task.
        starts: number of starts that are climbed on up to 500 points.
        added: starts of the last stage, where all points were screened.
    """
    small, middle, tasks = sizes
    whole = tasks.objective(b)
    if starts == 1:
        return [Rung(whole, 0, _CLOSE)]
    near = whole if small is tasks else small.objective(b)
    rungs = [Rung(near, _FIRST * starts, _BRIEF)]
    if near is whole:
        rungs.append(Rung(near, 2 * starts, _ROUGH))
    last = Rung(whole, starts - 2, _CLOSE, fresh=2, added=added)
    if middle is not tasks:
        rungs.append(Rung(middle.objective(b), starts, _MEDIUM))
        last = Rung(whole, 1, _CLOSE)
    return [*rungs, last]


def _tasks(problem: Problem) -> tuple[_Tasks, InputScales]:
    """The problem in float64 on its device, with the box of its search."""
    given, free = problem.given, problem.free
    x = problem.gram.x.detach().double()
    matrices = problem.gram if problem.gram.x.dtype == torch.float64 else problem.gram.on(x)
    y = problem.y.detach().double()
    if free.noise and (free.scale or free.kernel) and (y == 0).flatten(1).all(1).any():
        raise ValueError(ALL_ZERO)
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
    variance = 1.0 if learn_scale else size
    low, high = spaces.kernel_box(matrices.coordinates, inputs, variance)
    diagonal = spaces.mean_diagonal(matrices)
    s_box = spaces.scale_box(size, diagonal, inputs)
    n_box = spaces.noise_box(size)
    log_noise = 0.0 if per_point else math.log(float(given.noise.reshape(-1)[0]))
    start = np.array([*theta, math.log(float(given.scale)), log_noise])
    box = Box(learn, np.array([*low, s_box[0], n_box[0]]), np.array([*high, s_box[1], n_box[1]]))
    space = Space(
        box,
        rescaled if rescaled is not None else ([p] if learn_scale else None),
        p,
    )
    return _Tasks(matrices, y, noise, space.box.clip(start), space), inputs


def _drawn(tasks: _Tasks, inputs: InputScales, count: int, seed: int) -> np.ndarray:
    """Settings z to screen, (count, P), shared by all tasks."""
    space, p = tasks.space, tasks.space.size
    z = np.tile(tasks.start, (count, 1))
    if not count:
        return z
    random = np.random.default_rng([seed, 1])
    size = spaces.positive_mean_square(tasks.y)
    if space.box.learn[:p].any():
        variance = 1.0 if space.box.learn[p] else size
        theta = tasks.start[:p]
        z[:, :p] = Draws(tasks.gram.coordinates, theta, inputs, variance, seed).sample(count)
        # A part of the draws keeps the user's own values, with noise of other sizes.
        z[: len(_OWN), :p] = theta
    if space.box.learn[p]:
        own = spaces.log_variances(tasks.gram, z[:, :p])
        z[:, p] = math.log(size) + random.standard_normal(count) - own
    if space.box.learn[p + 1]:
        shares = random.uniform(*_NOISE, count)
        rare = random.random(count) < _RARE
        shares[rare] = random.uniform(*_LITTLE, int(rare.sum()))
        z[:, p + 1] = math.log(size) + shares
        z[: len(_OWN), p + 1] = math.log(size) + np.log(_OWN)
    return space.box.clip(z)


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
    if tasks.noise is not None:
        for b in range(B):
            found = tasks.objective(b).values(draws)
            values[b] = np.where(np.isfinite(found), found, -np.inf)
        return values, fitted
    p = space.size
    joint = space.rescaled is not None and bool(space.box.learn[p + 1])
    columns = y.movedim(0, 1).reshape(n, B * C)
    for some in _chunks(len(draws), n):
        Z = y.new_tensor(draws[some])
        A = tasks.gram.lower_matrices(Z[:, :p]).mul_(Z[:, p].exp()[:, None, None])
        A.diagonal(dim1=-2, dim2=-1).add_(Z[:, p + 1].exp()[:, None])
        lower, info = torch.linalg.cholesky_ex(A)
        half = torch.linalg.solve_triangular(lower, columns.expand(len(Z), -1, -1), upper=False)
        quadratic = half.square().sum(1).reshape(-1, B, C).sum(2).T.cpu().numpy()  # (B, S)
        logdet = 2 * lower.diagonal(dim1=-2, dim2=-1).log().sum(-1).cpu().numpy()
        log_c = np.zeros_like(quadratic)
        if joint:
            log_c = np.log(np.maximum(quadratic, 1e-300) / (n * C))
            entries = np.array([*(space.rescaled or []), p + 1])
            fitted[:, some, entries] += log_c[..., None]
        with np.errstate(over="ignore", invalid="ignore"):  # a failed factorisation gives no value
            rest = quadratic * np.exp(-log_c) + C * (logdet + n * log_c)
        found = -0.5 * (rest + n * C * math.log(2 * math.pi))
        good = np.isfinite(found) & (info == 0).cpu().numpy()
        values[:, some] = np.where(good, found, -np.inf)
    return values, space.box.clip(np.where(np.isfinite(fitted), fitted, draws))


def _ranked(draws: np.ndarray, values: np.ndarray, most: int) -> list[np.ndarray]:
    """The best draws of a task, in falling order of their evidence."""
    order = np.argsort(-values, kind="stable")[:most]
    return [draws[k] for k in order if np.isfinite(values[k])]


def _own_start(tasks: _Tasks, b: int) -> np.ndarray:
    """The user's kernel with the best of a few noises, or with the scale and noise as given."""
    one = tasks.task(b)
    space, p = tasks.space, tasks.space.size
    size = spaces.positive_mean_square(one.y)
    grid = np.array(_OWN) if space.box.learn[p + 1] else np.ones(1)
    z = np.tile(tasks.start, (len(grid), 1))
    diagonal = spaces.mean_diagonal(tasks.gram)
    if space.box.learn[p]:
        z[:, p] = math.log(size / diagonal)
    if space.box.learn[p + 1]:
        # The noise is relative to the kernel's own variance, as both are then fitted together.
        z[:, p + 1] = z[:, p] + math.log(diagonal) + np.log(grid)
    # Values that were learnt with a given noise, such as those of a nested kernel, stay together.
    z = np.concatenate([z, tasks.start[None]])
    values, fitted = _screened(one, space.box.clip(z))
    return fitted[0, int(np.argmax(values[0]))]


def setting(problem: Problem, mode: LocalMaximum) -> GPSetting:
    """The hyperparameters at a mode, in the dtype of the problem; the noise is (1, 1)."""
    y = problem.y
    p = len(mode.point) - 2
    return GPSetting(
        y.new_tensor(mode.point[:p]),
        y.new_tensor(mode.point[p]).exp(),
        y.new_tensor(mode.point[p + 1]).exp().reshape(1, 1),
    )

"""The methods that fit a Gaussian process to one set of inputs.

Each function takes a `Problem` and returns a `Found`.
"""

from __future__ import annotations

from dataclasses import replace

import gpytorch
import numpy as np
import torch
from torch import Tensor

from bayesgen import kernels
from bayesgen._internal import checks
from bayesgen._internal.progress import Progress
from bayesgen.covariance.gram import KernelGram, LengthscaleGram
from bayesgen.models.gp import gradient_search, krylov, lengthscale_search
from bayesgen.models.gp.mean import LinearInParameters, MeanSpace, ProfiledObjective
from bayesgen.models.gp.objective import evidence_at, is_per_point
from bayesgen.models.gp.problem import Found, GPSetting, Problem
from bayesgen.models.profile_search import ProfileMaximum
from bayesgen.models.search.landscape import Landscape
from bayesgen.models.search.multistart import LocalMaximum
from bayesgen.spectrum.maximise import maximise
from bayesgen.spectrum.spectrum import Spectrum

# Largest number of searches with different means, of modes that are climbed with the mean free, and
# the gain in nats above which another search is made.
_MEANS, _CLIMBED, _GAIN = 3, 3, 0.01


def fixed(problem: Problem) -> Found:
    """The evidence at the given hyperparameters, by one Cholesky factorisation per noise."""
    given, B = problem.given, len(problem.y)
    parts, alpha = evidence_at(problem.gram, given, problem.y)
    scale, noise = given.scale.expand(B), given.noise
    return Found(
        given.theta.expand(B, -1),
        scale,
        noise.expand(B, 1, 1) if noise.numel() == 1 else noise,
        alpha,
        parts,
        torch.zeros_like(scale, dtype=torch.bool),
    )


def by_spectrum(problem: Problem) -> Found:
    """Outputscale and noise variance of largest evidence, from one dense spectrum."""
    theta, y = problem.given.theta, problem.y
    spectrum = Spectrum.of_matrix(problem.gram.matrix(theta), y)
    top = maximise(spectrum, problem.kept_scale, problem.kept_noise)
    return Found(
        theta.expand(len(y), -1),
        top.scale,
        top.noise[:, None, None],
        spectrum.unchecked_solve(top.scale, top.noise),
        top.parts,
        top.at_bound,
        1,
        spectrum,
    )


def by_lengthscale(
    problem: Problem,
    tolerance: float,
    most: int,
    starts: int,
    seed: int,
    progress: Progress | None,
) -> Found:
    """Length-scale, outputscale and noise variance of largest evidence, from a few dense spectra.

    Args:
        problem: a problem whose kernel has one length-scale as its only free parameter.
        tolerance: gain of a task, in nats, below which the search stops.
        most: largest number of spectra.
        starts: with 1, the search starts at the kernel's own length-scale only.
        seed: seed of the choice of points for the first spectra.
        progress: called as progress(done, expected, what).
    """
    assert isinstance(problem.gram, LengthscaleGram)
    best = lengthscale_search.search_lengthscale(
        problem.gram,
        problem.y,
        scale=problem.kept_scale,
        noise=problem.kept_noise,
        tolerance=tolerance,
        most=most,
        progress=progress,
        starts=starts,
        seed=seed,
    )
    return Found(
        best.parameter[:, None],
        best.scale,
        best.noise[:, None, None],
        best.alpha,
        best.parts,
        best.at_bound,
        best.spectra,
        landscapes=_of_profile(best),
    )


def _of_profile(best: ProfileMaximum) -> list[Landscape]:
    """The local maxima among the spectra of a search over log ℓ, for each task."""
    assert best.tried is not None
    assert best.at_edge is not None
    settings, values, slopes = best.tried
    ratio = (best.at_bound & ~best.at_edge).cpu().numpy()
    result = []
    for b in range(values.shape[1]):
        padded = np.concatenate([[-np.inf], values[:, b], [-np.inf]])
        peaks = np.flatnonzero((padded[1:-1] >= padded[:-2]) & (padded[1:-1] >= padded[2:]))
        ordered = sorted(peaks, key=lambda k: -values[k, b])
        modes = [
            LocalMaximum(settings[k, b], float(values[k, b]), 1, abs(float(slopes[k, b])))
            for k in ordered
        ]
        edge = np.array([bool(best.at_edge[b]), False, bool(ratio[b])])
        result.append(Landscape(modes, edge))
    return result


def by_gradient(problem: Problem, starts: int, seed: int, progress: Progress | None) -> Found:
    """Hyperparameters of largest evidence for any kernel, by a search from many starts.

    Args:
        problem: the problem to solve.
        starts: number of starts; see `gradient_search.search`.
        seed: seed of the starts.
        progress: called as progress(done, expected, what).
    """
    landscapes = gradient_search.search(problem, starts=starts, seed=seed, progress=progress)
    return _at_modes(problem, landscapes)


def with_mean(
    problem: Problem, starts: int, seed: int, progress: Progress | None
) -> tuple[Problem, Found]:
    """Parameters of the prior mean of largest evidence, with those that are learnt beside them.

    The covariances are searched for the targets less the least squares estimate of the mean. From
    the modes found, the evidence at the best mean is climbed. A second search starts at that mean.

    Args:
        problem: a problem of one task whose mean is linear in its parameters.
        starts, seed, progress: as in `by_gradient`.

    Returns:
        The problem with the mean that was found, and its solution.

    Raises:
        ValueError: the mean is not linear in its parameters, or reproduces all targets.
    """
    mean, y = problem.mean, problem.y[0].double()
    assert isinstance(mean, LinearInParameters)
    space = MeanSpace(mean.slopes(problem.gram.x))

    def moved(gamma: Tensor) -> Problem:
        at = mean.moved(space.coefficients(gamma))
        return replace(problem, mean=at, y=problem.observed.y - at(problem.gram.x))

    given, free = problem.given, problem.free
    if not (free.kernel or free.scale or free.noise):
        noise = given.noise[0] if is_per_point(given.noise) else given.noise.reshape(())
        own = (given.theta, given.scale, noise)
        matrices = problem.gram
        if matrices.x.dtype != torch.float64:
            matrices = matrices.on(matrices.x.double())
        at = moved(space.estimate(matrices, y, *(value.double() for value in own)))
        return at, fixed(at)
    gamma, best = space.project(y), -np.inf
    rest = y - space.values(gamma)
    rounding = 1e3 * torch.finfo(problem.y.dtype).eps * float(y.abs().max())
    if free.noise and float(rest.abs().max()) <= rounding:
        raise ValueError(
            "y must not be reproduced exactly by the mean: the evidence then grows without bound "
            "as the variances shrink; give the noise, or keep the mean"
        )
    landscape: Landscape | None = None
    for _ in range(_MEANS):
        now = moved(gamma)
        (found,) = gradient_search.search(now, starts=starts, seed=seed, progress=progress)
        points = [mode.point for mode in found.modes[:_CLIMBED]]
        new, objective = gradient_search.climb(
            now, points, lambda base: ProfiledObjective(base, space)
        )
        if landscape is not None and new.modes[0].value <= best + _GAIN:
            break
        landscape, best = new, new.modes[0].value
        assert isinstance(objective, ProfiledObjective)
        gamma = gamma + objective.estimate(new.modes[0].point)
    assert landscape is not None
    at = moved(gamma)
    return at, _at_modes(at, [landscape])


def _at_modes(problem: Problem, landscapes: list[Landscape]) -> Found:
    """The evidence and the solve at the best mode of each task."""
    matrices, y = problem.gram, problem.y
    each = [gradient_search.setting(problem, found.modes[0]) for found in landscapes]
    if is_per_point(problem.given.noise):
        noise = problem.given.noise
        own = [noise[min(b, len(noise) - 1)][None] for b in range(len(y))]
    else:
        own = [setting.noise[None] for setting in each]
    pairs = []
    for b, setting in enumerate(each):
        check_kernel(matrices, setting.theta)
        at = GPSetting(setting.theta, setting.scale, own[b])
        pairs.append(evidence_at(matrices, at, y[b : b + 1]))
    first, *others = (parts for parts, _ in pairs)
    return Found(
        torch.stack([setting.theta for setting in each]),
        torch.stack([setting.scale for setting in each]),
        torch.cat(own),
        torch.cat([alpha for _, alpha in pairs]),
        first.map(lambda *values: torch.cat(values), *others),
        torch.tensor([bool(found.at_bound.any()) for found in landscapes], device=y.device),
        landscapes=landscapes,
    )


def by_krylov(problem: Problem, search: krylov.Search) -> Found:
    """Hyperparameters of largest evidence for many points, by block Lanczos."""
    B, given = len(problem.y), problem.given
    noise = given.noise.reshape(()).expand(B)
    best = krylov.fit(problem.gram, problem.y, problem.free, given.scale.expand(B), noise, search)
    return Found(
        best.theta,
        best.scale.to(problem.y),
        best.noise[:, None, None].to(problem.y),
        best.alpha,
        best.evidence.parts,
        best.at_bound,
        best.spectra,
        dense=False,
        checks=best.checks,
    )


def check_kernel(matrices: KernelGram, theta: Tensor) -> None:
    """Check that a user's kernel is symmetric, finite and PSD on all inputs.

    A valid kernel costs one Cholesky factorisation. Eigenvalues are computed only for the error
    message.

    Raises:
        ValueError: the kernel's matrix is not square, finite, symmetric or PSD up to rounding.
    """
    parts = [p for p in matrices.base.modules() if isinstance(p, gpytorch.kernels.Kernel)]
    if all(_is_psd(part, matrices.x.shape[1]) for part in parts):
        return
    base, matrix = matrices.base, matrices.matrix(theta)
    name = base.name() if isinstance(base, kernels.FunctionKernel) else type(base).__name__
    n, who, eps = len(matrix), f"kernel {name}", torch.finfo(matrix.dtype).eps
    checks.gram(matrix, n, who)
    size = float(matrix.abs().sum(1).max())  # at least the largest eigenvalue
    shifted = matrix.clone()
    shifted.diagonal().add_(10 * n * eps * size)
    if int(torch.linalg.cholesky_ex(shifted)[1]):
        values = torch.linalg.eigvalsh(matrix)
        checks.psd(float(values[0]), float(values[-1]), n, matrix.dtype, who)


def _is_psd(part: gpytorch.kernels.Kernel, width: int) -> bool:
    """Whether a kernel is known to be PSD; a cosine of a distance is on one column only."""
    if isinstance(part, gpytorch.kernels.CosineKernel):
        return width == 1 or (part.active_dims is not None and len(part.active_dims) == 1)
    return type(part).__module__.startswith("gpytorch.")

"""The methods that fit a Gaussian process to one set of inputs.

Each function takes a `Problem` and returns a `Found`.
"""

from __future__ import annotations

from functools import partial

import gpytorch
import torch
from torch import Tensor

from bayesgen import kernels
from bayesgen._internal import checks
from bayesgen._internal.progress import Progress
from bayesgen.covariance.gram import KernelGram, LengthscaleGram
from bayesgen.models.gp import gradient_search, krylov, lengthscale_search
from bayesgen.models.gp.objective import evidence_at
from bayesgen.models.gp.problem import Found, GPSetting, Problem
from bayesgen.spectrum.maximise import maximise
from bayesgen.spectrum.spectrum import Spectrum


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
    problem: Problem, tolerance: float, most: int, progress: Progress | None
) -> Found:
    """Length-scale, outputscale and noise variance of largest evidence, from a few dense spectra.

    Args:
        problem: a problem whose kernel has one length-scale as its only free parameter.
        tolerance: gain of a task, in nats, below which the search stops.
        most: largest number of spectra.
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
    )
    return Found(
        best.parameter[:, None],
        best.scale,
        best.noise[:, None, None],
        best.alpha,
        best.parts,
        best.at_bound,
        best.spectra,
    )


def by_gradient(problem: Problem, progress: Progress | None) -> Found:
    """Hyperparameters of locally largest evidence for any kernel, by L-BFGS for each task.

    Each task starts from the better of two starting points; see `gradient_search.starts`.
    """
    matrices, B = problem.gram, len(problem.y)
    found = []
    for b, (y, start) in enumerate(zip(problem.y, gradient_search.starts(problem), strict=True)):
        report = progress and partial(_within, progress, b, B)
        found.append(
            gradient_search.search_gradient(matrices, y, start, problem.free, progress=report)
        )
    for setting in found:
        check_kernel(matrices, setting.theta)
    pairs = [
        evidence_at(matrices, GPSetting(s.theta, s.scale, s.noise[None]), problem.y[b : b + 1])
        for b, s in enumerate(found)
    ]
    first, *others = (parts for parts, _ in pairs)
    scale = torch.stack([s.scale for s in found])
    return Found(
        torch.stack([s.theta for s in found]),
        scale,
        torch.stack([s.noise for s in found]),
        torch.cat([alpha for _, alpha in pairs]),
        first.map(lambda *values: torch.cat(values), *others),
        torch.zeros_like(scale, dtype=torch.bool),
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
    )


def _within(progress: Progress, b: int, B: int, done: int, expected: int, what: str) -> None:
    """Report the progress of one task as a part of the progress of all."""
    progress(b * expected + done, B * expected, f"task {b + 1} of {B}: {what}")


def check_kernel(matrices: KernelGram, theta: Tensor) -> None:
    """Check that a user's kernel is symmetric, finite and PSD on all inputs.

    A valid kernel costs one Cholesky factorisation. Eigenvalues are computed only for the error
    message.

    Raises:
        ValueError: the kernel's matrix is not square, finite, symmetric or PSD up to rounding.
    """
    parts = [p for p in matrices.base.modules() if isinstance(p, gpytorch.kernels.Kernel)]
    if all(type(part).__module__.startswith("gpytorch.") for part in parts):
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

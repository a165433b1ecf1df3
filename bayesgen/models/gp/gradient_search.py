"""Maximise the evidence over the parameters of any kernel, by L-BFGS on the exact gradient."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from bayesgen import kernels
from bayesgen._internal.progress import Progress
from bayesgen.covariance.gram import Gram
from bayesgen.models.ascent import Bounds, ascend
from bayesgen.models.gp.objective import LogMarginalLikelihood, is_per_point
from bayesgen.models.gp.problem import GPSetting, Problem
from bayesgen.models.hyperparameters import Free
from bayesgen.spectrum.maximise import maximise
from bayesgen.spectrum.spectrum import Spectrum


def starts(problem: Problem) -> list[GPSetting]:
    """Starting hyperparameters of each task.

    The candidates are the kernel as the user gave it, and the kernel with its length-scales at the
    typical distance between points. Each task takes the one with more evidence at its best
    (s, σ²), from one spectrum per candidate for all tasks. With noise variances per point there is
    no such spectrum, and the typical distance is taken.
    """
    matrices, y, given, free = problem.gram, problem.y, problem.given, problem.free
    typical = matrices.parameters(kernels.with_typical_lengthscales(matrices.base, matrices.x))
    if is_per_point(given.noise):
        variance = y.square().mean((-2, -1)).clamp(min=torch.finfo(y.dtype).tiny)
        theta = typical if free.kernel else given.theta
        each = given.noise.expand(len(y), -1, -1)
        return [
            GPSetting(theta, variance[b] if free.scale else given.scale, noise)
            for b, noise in enumerate(each)
        ]
    best: list[tuple[Tensor, GPSetting]] = []
    for theta in [given.theta, typical] if free.kernel else [given.theta]:
        spectrum = Spectrum.of_matrix(matrices.matrix(theta), y)
        top = maximise(spectrum, problem.kept_scale, problem.kept_noise)
        new = [
            (value, GPSetting(theta, top.scale[b], top.noise[b].reshape(1, 1)))
            for b, value in enumerate(top.parts.log_marginal_likelihood)
        ]
        pairs = zip(best, new, strict=True)
        best = [max(pair, key=lambda c: c[0]) for pair in pairs] if best else new
    return [setting for _, setting in best]


def search_gradient(
    gram: Gram, y: Tensor, start: GPSetting, free: Free, *, progress: Progress | None = None
) -> GPSetting:
    """Hyperparameters of locally largest evidence near a start, for one task.

    L-BFGS-B (SciPy) runs over the free ones of (θ, log s, log σ²) on the exact gradient. The bounds
    of log s and log σ² are wide intervals around the log mean square of the targets.

    Args:
        gram: kernel on the inputs.
        y: targets, (n, C).
        start: hyperparameters to start from or to keep.
        free: which hyperparameters are learnt.
        progress: called as progress(done, expected, what) after each evaluation.
    """
    objective = LogMarginalLikelihood(gram, y)
    p = len(start.theta)
    scalar_noise = start.noise.numel() == 1
    learn = np.array([free.kernel] * p + [free.scale, free.noise and scalar_noise])
    fixed = np.array(
        [
            *start.theta.tolist(),
            float(start.scale.log()),
            float(start.noise.log()) if scalar_noise else 0.0,
        ]
    )
    variance = math.log(max(float(y.square().mean()), torch.finfo(y.dtype).tiny))
    bounds: Bounds = [(None, None)] * p + [
        (variance - 23, variance + 23),
        (variance - 23, variance + 7),
    ]

    def setting(values: np.ndarray) -> GPSetting:
        noise = y.new_full((1, 1), values[p + 1]).exp() if scalar_noise else start.noise
        return GPSetting(y.new_tensor(values[:p]), y.new_tensor(values[p]).exp(), noise)

    def evaluate(values: np.ndarray) -> tuple[float, np.ndarray]:
        at = setting(values)
        result = objective(at.theta, at.scale, at.noise)
        gradient = [*result.kernel.tolist(), float(result.log_scale), float(result.log_noise)]
        return float(result.value), np.array(gradient)

    return setting(ascend(evaluate, fixed, learn, bounds, progress=progress))

"""Tests of `bayesgen.models.gp.problem`."""

import gpytorch
import torch

from bayesgen.covariance.gram import gram
from bayesgen.models.gp.problem import GPSetting, Problem, zero_mean
from bayesgen.models.hyperparameters import Free
from bayesgen.posterior.posterior import Observed

F64 = torch.float64


def problem(free):
    x = torch.linspace(0, 1, 6, dtype=F64)[:, None]
    matrices = gram(gpytorch.kernels.RBFKernel().double(), x)
    y = torch.sin(x)[None]
    given = GPSetting(matrices.start(), torch.tensor(2.0, dtype=F64), torch.full((1, 1), 0.1))
    return Problem(matrices, Observed(y, y.shape, True), y, zero_mean, given, free)


def test_what_is_not_learnt_is_kept():
    kept = problem(Free(True, False, False))
    assert float(kept.kept_scale) == 2.0
    assert kept.kept_noise.shape == ()
    learnt = problem(Free(True, True, True))
    assert learnt.kept_scale is None
    assert learnt.kept_noise is None


def test_zero_mean_is_a_column():
    x = torch.ones(4, 3, dtype=torch.float32)
    assert torch.equal(zero_mean(x), torch.zeros(4, 1))
    assert zero_mean(x).dtype == torch.float32

"""Tests of `bayesgen._internal.progress`."""

import gpytorch
import pytest
import torch

import bayesgen as bg
from bayesgen.covariance.gram import gram
from bayesgen.covariance.tiled import TiledGram
from bayesgen.experiments.executor import Job, sweep

X = torch.linspace(-1, 1, 24, dtype=torch.float64)
Y = torch.sin(3 * X) + 0.1 * torch.cos(57 * X)


def tiles(progress):
    matrices = gram(gpytorch.kernels.RBFKernel().double(), X[:, None])
    TiledGram(matrices, matrices.start(), "memory", progress=progress)


def network(progress):
    net = torch.nn.Linear(1, 1).double()
    bg.fit_map(net, X[:, None], Y, "gaussian", prior_precision=1.0, progress=progress)


WORK = {
    "process": lambda p: bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit(X, Y, progress=p),
    "gradient search": lambda p: bg.GaussianProcess(gpytorch.kernels.PeriodicKernel()).fit(
        X, Y, progress=p
    ),
    "tiles": tiles,
    "mode": network,
    "sweep": lambda p: sweep([Job("one", dict, ()), Job("two", dict, ())], [[1], [2]], progress=p),
}


@pytest.mark.parametrize("name", WORK)
def test_long_computations_report_done_expected_and_what(name):
    heard = []
    WORK[name](lambda *said: heard.append(said))
    assert heard
    for done, expected, what in heard:
        assert isinstance(done, int)
        assert isinstance(expected, int)
        assert 0 <= done <= expected
        assert isinstance(what, str)
        assert what
    done = [said[0] for said in heard]
    assert done == sorted(done)

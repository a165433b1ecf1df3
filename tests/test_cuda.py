"""On a card everything is as on the CPU; the CPU half of each runs everywhere."""

import gpytorch
import pytest
import torch

import bayesgen as bg
from bayesgen import sharded, solvers
from bayesgen.gram import gram
from bayesgen.spectrum import Spectrum
from bayesgen.tiles import TiledGram

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
F64 = torch.float64


def problem(device):
    g = torch.Generator().manual_seed(0)
    x = torch.rand(400, 3, generator=g, dtype=F64)
    y = torch.sin(4 * x) + 0.2 * torch.randn(400, 3, generator=g, dtype=F64)
    return x.to(device), y.to(device)


def exact(x, y):
    K = torch.exp(-0.5 * torch.cdist(x, x).square() / 0.25)
    A = K + 0.1 * torch.eye(len(x), dtype=F64, device=x.device)
    normal = torch.distributions.MultivariateNormal(torch.zeros_like(x[:, 0]), A)
    return K, float(normal.log_prob(y.mT).sum())


@pytest.mark.parametrize("device", DEVICES)
def test_every_engine_finds_the_evidence(device):
    x, y = problem(device)
    K, truth = exact(x, y)
    for spectrum in (Spectrum.dense(K, y), Spectrum.krylov(K, y, steps=16)):
        e = spectrum.evidence(1.0, 0.1)
        assert e.fit.device == x.device
        assert abs(float(e.log_marginal_likelihood) - truth) < 3 * float(e.error) + 1e-6
        assert spectrum.solve(1.0, 0.1).device == x.device
    A = K + 0.1 * torch.eye(len(x), dtype=F64, device=x.device)
    for dtype in (F64, torch.float32):
        found = solvers.batched_evidence(A[None], y[None], dtype=dtype)
        gap = abs(float(found.log_marginal_likelihood) - truth)
        assert gap < 3 * float(found.error) + 1e-6
    low = solvers.evidence_interval(K, y, 1.0, 0.1, rank=100)
    assert float(low.lower) <= truth + 1e-6
    assert truth <= float(low.upper) + 1e-6


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("storage", ["memory", "none"])
def test_tiles_stay_on_their_device(device, storage):
    x, y = problem(device)
    matrices = gram(gpytorch.kernels.RBFKernel().double().to(device), x)
    theta = matrices.start()
    tiles = TiledGram(matrices, theta, storage)
    K = matrices.matrix(theta)
    assert (tiles @ y).device == x.device
    torch.testing.assert_close(tiles @ y, K @ y)
    assert tiles.moments() == pytest.approx((float(K.trace()), float(K.square().sum())))


@pytest.mark.parametrize("device", DEVICES)
def test_a_large_process_and_many_small_ones(device):
    x, y = problem(device)
    kernel = gpytorch.kernels.RBFKernel()
    large = bg.GaussianProcess(kernel, engine="krylov").fit(x, y)
    dense = bg.GaussianProcess(kernel).fit(x, y)
    assert large.mean(x[:5]).device == x.device
    gap = large.evidence.log_marginal_likelihood - dense.evidence.log_marginal_likelihood
    assert abs(float(gap)) < 0.02 * abs(float(dense.evidence.log_marginal_likelihood))
    many = bg.GaussianProcess(kernel).fit(x.reshape(8, 50, 3), y.reshape(8, 50, 3))
    assert many.evidence.fit.shape == (8,)
    assert many.evidence.fit.device == x.device


def test_processes_talk_by_what_they_have():
    assert sharded.backend(4, 0) == "gloo"
    assert sharded.backend(4, 4) == "cpu:gloo,cuda:nccl"
    assert sharded.backend(4, 1) == "gloo"

"""Tests of `bayesgen.models.deep.features`."""

import gpytorch
import torch

import bayesgen as bg
from bayesgen.models.deep.features import Bounded
from tests.models.deep.problems import mlp, wave

F64 = torch.float64


RBF = gpytorch.kernels.RBFKernel


def test_bounded_layer_stays_within_its_norm():
    net = mlp()
    with torch.no_grad():
        net[1].weight.mul_(50)
    posterior = bg.DeepKernel(net, RBF(), steps=5, lipschitz=0.9).fit(*wave())
    for layer in (posterior.net[1], posterior.net[3]):
        assert float(torch.linalg.matrix_norm(layer.weight.detach(), 2)) <= 0.9 + 1e-12
    loose = torch.eye(2, dtype=F64) * 0.5
    torch.testing.assert_close(Bounded(0.9)(loose), loose)
    assert float(net[1].weight.detach().norm()) > 10  # The user's own is as it was.

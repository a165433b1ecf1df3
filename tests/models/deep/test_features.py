"""Tests of `bayesgen.models.deep.features`."""

import gpytorch
import pytest
import torch
from torch import nn

import bayesgen as bg
from bayesgen.models.deep.bounded import Bounded
from bayesgen.models.deep.features import DeepFeatures
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


@pytest.mark.parametrize("lipschitz", [None, 0.7])
def test_features_and_pulled_gradients_match_autograd(lipschitz):
    x, _ = wave(11)
    features = DeepFeatures(mlp(), 4, x, lipschitz=lipschitz)
    phi = features.net(x)
    torch.testing.assert_close(features(x), phi.detach())
    weights = torch.randn(phi.shape, generator=torch.Generator().manual_seed(0), dtype=F64)
    want = torch.autograd.grad((weights * phi).sum(), features.parameters())
    features.pull(x, weights)
    for parameter, gradient in zip(features.parameters(), want, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_frozen_network_has_plain_weights_of_the_same_function():
    x, _ = wave(5)
    features = DeepFeatures(mlp(), 4, x, lipschitz=0.5)
    want = features(x)
    plain = features.frozen()
    assert set(plain.state_dict()) == set(mlp().state_dict())
    torch.testing.assert_close(plain(x).detach(), want)


def test_bound_holds_for_convolutions_as_matrices():
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    bounded = Bounded(0.8)(weight)
    assert float(torch.linalg.matrix_norm(bounded.flatten(1), 2)) == pytest.approx(0.8)


def test_features_of_wrong_shape_raise():
    net = nn.Sequential(nn.Linear(2, 2), nn.Flatten(0))
    with pytest.raises(ValueError, match=r"of shape \(2, C\), got \(4,\)"):
        DeepFeatures(net, 10, torch.zeros(5, 2))


def test_freezing_leaves_the_features_as_they_are():
    x = torch.linspace(-1, 1, 5, dtype=F64)[:, None]
    features = DeepFeatures(nn.Sequential(nn.Linear(1, 2)).double(), 4, x, lipschitz=0.5)
    before = features(x)
    frozen = features.frozen()
    torch.testing.assert_close(features(x), before)
    torch.testing.assert_close(frozen(x).double(), before.double())
    assert {name for name, _ in frozen.named_parameters()} == {"0.bias", "0.weight"}

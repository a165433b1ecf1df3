"""Tests of `bayesgen.training.settle`: training that ends at a mode."""

import pytest
import torch
from torch import nn

import bayesgen as bg
from bayesgen.errors import NotAtModeWarning

DATA = bg.data.load("digits", train=120, test=20)


def conv():
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 10)
    )


NETWORKS = {
    "softmax": lambda: bg.networks.MLP(64, (), 10),
    "mlp": lambda: bg.networks.MLP(64, (8,), 10),
    "convnet": conv,
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_the_recipe_of_training_and_laplace_ends_at_a_mode(make, dtype):
    net, x = make().to(dtype), DATA.x_train.to(dtype)
    run = bg.train(
        net, x, DATA.y_train, epochs=15, evidence_every=5, optimiser="adam", to_mode=True
    )
    laplace = bg.Laplace(net, prior_precision=run.prior_precision, hyperparameters="fixed")
    posterior = laplace.fit(x, DATA.y_train)  # a warning would be an error
    assert posterior.gain < 0.01 * 120
    table = bg.compare({"net": posterior})
    assert table.loc["net", "gain"] == posterior.gain
    assert table.loc["null"].isna()["gain"]


def test_a_stated_precision_is_kept():
    net = nn.Sequential(nn.Linear(64, 4), nn.Tanh(), nn.Linear(4, 10)).double()
    run = bg.train(net, DATA.x_train, DATA.y_train, epochs=5, prior_precision=2.0, to_mode=True)
    assert run.prior_precision.tolist() == [2.0, 2.0]
    laplace = bg.Laplace(net, prior_precision=2.0, hyperparameters="fixed")
    assert laplace.fit(DATA.x_train, DATA.y_train).gain < 0.1


def test_real_targets_learn_their_noise_at_the_mode():
    x = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
    y = torch.sin(3 * x) + 0.1 * torch.randn(50, 1, dtype=torch.float64)
    net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    run = bg.train(net, x, y, "gaussian", epochs=100, evidence_every=20, to_mode=True)
    fixed = {"noise": run.noise, "hyperparameters": "fixed"}
    posterior = bg.Laplace(net, "gaussian", run.prior_precision, **fixed).fit(x, y)
    assert posterior.gain < 0.05
    assert 0.003 < float(run.noise) < 0.05


def test_what_has_no_mode_is_said():
    net = bg.networks.MLP(64, (4,), 10).double()
    with pytest.raises(ValueError, match="to_mode needs prior_precision > 0 or evidence_every"):
        bg.train(net, DATA.x_train, DATA.y_train, epochs=1, to_mode=True)
    with pytest.raises(TypeError, match="to_mode must be True or False"):
        bg.train(net, DATA.x_train, DATA.y_train, epochs=1, to_mode="yes")


@pytest.mark.slow
def test_a_network_with_batchnorm_says_that_it_reached_no_mode():
    net = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 10)).double()
    with pytest.warns(NotAtModeWarning, match="as before a BatchNorm"):
        bg.train(net, DATA.x_train, DATA.y_train, epochs=5, evidence_every=5, to_mode=True)

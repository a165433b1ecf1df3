"""Tests of `bayesgen.models.network.remode`."""

import copy
import math

import pytest
import sklearn.datasets
import torch
from torch import nn

import bayesgen as bg
from tests.networks import kinds

F64 = torch.float64


def wine(hidden=3, n=None):
    data = sklearn.datasets.load_wine()
    x, y = torch.tensor(data.data), torch.tensor(data.target)
    x = (x - x.mean(0)) / x.std(0)
    x, y = x[:: 1 if n is None else len(x) // n], y[:: 1 if n is None else len(y) // n]
    torch.manual_seed(0)
    net = bg.networks.MLP(13, (hidden,), 3, activation="tanh").double()
    bg.train(net, x, y, epochs=30, optimiser="adam", learning_rate=1e-2, prior_precision=1.0)
    return net, x, y


def sine():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(40, 1, generator=g, dtype=F64) * 4 - 2
    y = torch.sin(2 * x[:, 0]) + 0.2 * torch.randn(40, generator=g, dtype=F64)
    torch.manual_seed(0)
    net = bg.networks.MLP(1, (2,), 1, activation="tanh").double()
    settings = {"epochs": 200, "optimiser": "adam", "learning_rate": 1e-2, "noise": 0.1}
    bg.train(net, x, y, "gaussian", prior_precision=0.1, **settings)
    return net, x, y


def climbed(net, x, y, alpha, likelihood="categorical", **settings):
    """The evidence at a precision, by `fit_map` and `Laplace` alone."""
    own = copy.deepcopy(net)
    settings = {"prior_precision": alpha} | settings
    bg.fit_map(own, x, y, likelihood, steps=3000, tolerance=1e-12, **settings)
    model = bg.Laplace(own, likelihood, hyperparameters="fixed", **settings)
    return float(model.fit(x, y).evidence.log_marginal_likelihood)


class Idle(nn.Module):
    """A linear network whose second layer reads a column of noise."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.used, self.idle = nn.Linear(1, 1).double(), nn.Linear(1, 1, bias=False).double()

    def forward(self, x):
        return self.used(x[:, :1]) + self.idle(x[:, 1:])


def value(posterior):
    return float(posterior.evidence.log_marginal_likelihood)


def test_wine_has_the_best_evidence_of_a_grid_and_no_gain_is_left():
    net, x, y = wine()
    state = kinds.state(net)
    found = bg.Laplace(net, remode=True).fit(x, y)
    assert kinds.same_state(state, kinds.state(net))
    grid = [climbed(net, x, y, math.exp(k / 2)) for k in range(-6, 3)]
    assert max(grid) - 1e-6 <= value(found) < max(grid) + 1
    assert abs(found.gain) < 1e-6
    assert not found.at_bound.any()
    assert found.learnt == {"prior_precision"}
    assert "mode found anew" in found.evidence.method
    kept = bg.Laplace(net)
    with pytest.warns(bg.NotAtModeWarning):
        kept = kept.fit(x, y)
    assert "mode kept" in kept.evidence.method
    assert value(found) > value(kept) + 1
    again = climbed(net, x, y, float(found.prior_precision))
    assert again == pytest.approx(value(found), abs=1e-3)


def test_precisions_of_layers_beat_one_and_are_stationary():
    net, x, y = sine()
    one = bg.Laplace(net, "gaussian", noise=0.04, remode=True).fit(x, y)
    found = bg.Laplace(net, "gaussian", "layer", noise=0.04, remode=True).fit(x, y)
    assert value(found) >= value(one)
    assert abs(found.gain) < 1e-6
    own = copy.deepcopy(net)
    nn.utils.vector_to_parameters(found.theta, own.parameters())
    for k in range(2):
        for step in (-0.05, 0.05):
            alpha = found.prior_precision.clone()
            alpha[k] *= math.exp(step)
            assert climbed(own, x, y, alpha, "gaussian", noise=0.04) < value(found) + 1e-6


@pytest.mark.parametrize("curvature", ["ggn", pytest.param("hessian", marks=pytest.mark.slow)])
def test_a_learnt_noise_is_best_too(curvature):
    net, x, y = sine()
    found = bg.Laplace(net, "gaussian", curvature=curvature, remode=True).fit(x, y)
    assert abs(found.gain) < 1e-6
    assert found.at_bound.tolist() == [False, False]
    own = copy.deepcopy(net)
    nn.utils.vector_to_parameters(found.theta, own.parameters())
    alpha, noise = float(found.prior_precision), float(found.noise)
    for a, s in ((1, 1.1), (0.9, 1)):
        settings = {"noise": noise * s}
        near = copy.deepcopy(own)
        bg.fit_map(near, x, y, "gaussian", prior_precision=alpha * a, tolerance=1e-13, **settings)
        model = bg.Laplace(
            near, "gaussian", alpha * a, curvature=curvature, hyperparameters="fixed", **settings
        )
        assert value(model.fit(x, y)) < value(found)
    only = bg.Laplace(net, "gaussian", alpha, hyperparameters="noise", remode=True)
    if curvature == "ggn":
        assert float(only.fit(x, y).noise) == pytest.approx(noise, rel=1e-3)


def test_fixed_hyperparameters_give_the_mode_there():
    net, x, y = sine()
    settings = {"noise": 0.05, "hyperparameters": "fixed"}
    found = bg.Laplace(net, "gaussian", 0.3, remode=True, **settings).fit(x, y)
    assert value(found) == pytest.approx(climbed(net, x, y, 0.3, "gaussian", noise=0.05), abs=1e-4)
    assert abs(found.gain) < 1e-9
    assert found.learnt == frozenset()


def test_a_precision_that_runs_away_is_stopped_and_flagged():
    _, x, y = sine()
    noise = torch.randn(40, generator=torch.Generator().manual_seed(1), dtype=F64)
    used = torch.stack([x[:, 0], torch.ones_like(y), y], 1)
    noise = noise - used @ torch.linalg.lstsq(used, noise[:, None]).solution[:, 0]
    net = Idle()
    model = bg.Laplace(net, "gaussian", "layer", noise=0.5, remode=True)
    found = model.fit(torch.cat([x, noise[:, None]], 1), y)
    assert found.at_bound.tolist() == [False, True]
    assert found.prior_precision[1] > 1e4 * found.prior_precision[0]
    alone = bg.Laplace(net.used, "gaussian", noise=0.5, remode=True).fit(x, y)
    assert value(found) == pytest.approx(value(alone), abs=1e-3)


def test_arguments_that_do_not_fit_are_refused():
    net, x, y = sine()
    for change in ({"mode": "linearised"}, {"curvature": "last_layer"}):
        with pytest.raises(ValueError, match="remode=True needs"):
            bg.Laplace(net, "gaussian", noise=1.0, remode=True, **change)
    with pytest.raises(ValueError, match='one prior precision or "layer"'):
        bg.Laplace(net, "gaussian", "parameter", remode=True)
    with pytest.raises(ValueError, match="or of shape"):
        bg.Laplace(net, "gaussian", torch.ones(3), remode=True).fit(x, y)
    with pytest.raises(TypeError, match="not a loader"):
        bg.Laplace(net, "gaussian", remode=True).fit([(x, y)])

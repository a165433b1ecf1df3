"""Tests of `bayesgen.models.network.posterior`."""

import math

import pytest
import torch

import bayesgen as bg
from bayesgen.curvature import jacobian
from tests.helpers import fixed_laplace, network_problem


def calibration(probs, y, bins=10):
    confidence, guess = probs.max(-1)
    hit = (guess == y).double()
    which = (confidence * bins).long().clamp(max=bins - 1)
    return sum(
        abs(float((hit - confidence)[which == b].sum())) / len(y) for b in range(bins)
    )  # fmt: skip


F64 = torch.float64


def test_repr_states_evidence_below_guessing():
    net, x, _ = network_problem()
    y = torch.randint(3, (30,), generator=torch.Generator().manual_seed(9))
    with pytest.warns(bg.NotAtModeWarning, match="gradient norm"):
        posterior = fixed_laplace(net, precision=1e-3).fit(x, y)
    assert float(posterior.evidence.per_observation) < -math.log(3)
    assert "below guessing uniformly" in repr(posterior)


def test_last_layer_reports_unpaid_features():
    net, x, y = network_problem()
    some, all_ = fixed_laplace(net, curvature="last_layer").fit(x, y), fixed_laplace(net).fit(x, y)
    assert some.evidence.complexity_excludes == ("features",)
    table = bg.compare({"last layer": some, "whole": all_})
    assert table.loc["last layer", "excludes"] == "features"
    assert not hasattr(all_, "certificate")


def test_averaging_over_weights_is_better_calibrated_than_the_mode():
    data = bg.data.load("digits", train=150, test=390)
    y, _ = bg.corrupt_labels(data.y_train, 0.3, num_classes=10, seed=0)
    truth, _ = bg.corrupt_labels(data.y_test, 0.3, num_classes=10, seed=1)
    torch.manual_seed(0)
    net = bg.networks.MLP(64, (24,), 10, activation="tanh").double()
    bg.train(net, data.x_train, y, epochs=600, batch=None, optimiser="adam", learning_rate=0.02)
    with pytest.warns(bg.NotAtModeWarning):
        posterior = bg.Laplace(net, curvature="kron").fit(data.x_train, y)
    point = net(data.x_test).softmax(-1).detach()
    want = -float(point.clamp(min=1e-300).log()[torch.arange(390), truth].mean())
    for method in ("mc", "probit"):
        probs = posterior.predict(data.x_test, method=method).probs
        nll = -float(probs.log()[torch.arange(390), truth].mean())
        assert nll < want - 0.2
        assert calibration(probs, truth) < calibration(point, truth) - 0.05
    mc = posterior.predict(data.x_test, method="mc", samples=300).probs
    assert float((mc - posterior.predict(data.x_test, method="probit").probs).abs().mean()) < 0.03


def test_weight_samples_have_covariance_of_posterior():
    net, x, y = network_problem(n=20, hidden=2)
    for curvature in ("ggn", "kron", "diag"):
        posterior = fixed_laplace(net, curvature=curvature).fit(x, y)
        steps = posterior.sample_weights(20_000) - posterior.curvature.weights.theta
        f = posterior.curvature.covariance(x[:4], torch.ones(1, dtype=F64))
        J = next(iter(jacobian.jacobians(posterior.curvature.weights, x[:4], 3, 8)))
        got = torch.einsum("mcp,sp->smc", J, steps).var(0)
        torch.testing.assert_close(got, f.diagonal(dim1=1, dim2=2), rtol=0.06, atol=1e-3)


def test_weight_samples_predict_as_linearisation():
    net, x, y = network_problem("gaussian", hidden=0)
    posterior = fixed_laplace(net, "gaussian").fit(x, y)
    a, b = posterior.predict(x), posterior.predict(x, method="weights", samples=4000)
    torch.testing.assert_close(a.mean, b.mean, rtol=0, atol=0.02)
    torch.testing.assert_close(a.stddev, b.stddev, rtol=0.03, atol=0)


def test_arviz_takes_network_posterior():
    net, x, y = network_problem()
    assert fixed_laplace(net).fit(x, y).to_arviz(draws=40) is not None

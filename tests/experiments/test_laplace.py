"""Tests of `bayesgen.experiments.laplace`."""

import numpy as np
import pytest
import torch

import bayesgen as bg
from bayesgen.experiments import laplace
from bayesgen.experiments.laplace import summary


@pytest.fixture(scope="module")
def result():
    return laplace(
        curvatures=["ggn", "last_layer"],
        prior_precision=2.0,
        train_points=80,
        test=60,
        epochs=10,
        steps=200,
    )


def test_all_curvatures_share_one_mode(result):
    assert (result.prior_precision == 2.0).all()
    assert (result.gain < 1e-2 * result.attrs["n"]).all()
    # The last layer alone pays for less.
    assert list(result.excludes.values) == ["", "features"]
    evidence = result.log_marginal_likelihood.values
    assert evidence[0] < evidence[1]
    np.testing.assert_allclose(result.fit - result.complexity, evidence)


def test_evidence_equals_laplace_fit():
    made = laplace(
        curvatures=["ggn"], prior_precision=2.0, train_points=60, test=30, epochs=5, steps=20
    )
    data = bg.data.load("digits", train=60, test=30)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = bg.networks.MLP(64, (64,), 10).double()
    bg.train(
        net, data.x_train, data.y_train, epochs=5, prior_precision=2.0, optimiser="adam",
        learning_rate=3e-3, batch=64,
    )  # fmt: skip
    bg.fit_map(net, data.x_train, data.y_train, prior_precision=2.0, steps=20)
    own = bg.Laplace(net, prior_precision=2.0, hyperparameters="fixed")
    with pytest.warns(bg.NotAtModeWarning):
        posterior = own.fit(data.x_train, data.y_train)
    want = float(posterior.evidence.log_marginal_likelihood)
    assert float(made.log_marginal_likelihood[0]) == pytest.approx(want, abs=1e-6)


def test_summary_ends_with_the_mode(result):
    table = summary(result)
    assert list(table.index) == ["ggn", "last_layer", "the mode"]
    assert np.isnan(table.loc["the mode", "log p(D)/n"])
    assert table.loc["the mode", "NLL"] == float(result.mode_test_nll)


@pytest.mark.parametrize("network", ["preresnet20", "resnet18"])
def test_every_network_has_finite_evidence(network):
    made = laplace(
        network=network, curvatures=["diag"], train_points=20, test=10, epochs=1, steps=2,
        dtype=torch.float32, prior_precision=1.0,
    )  # fmt: skip
    assert np.isfinite(made.log_marginal_likelihood).all()

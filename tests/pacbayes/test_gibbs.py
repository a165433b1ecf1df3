"""Tests of `bayesgen.pacbayes.gibbs`."""

import gpytorch
import pytest

import bayesgen as bg
from tests.helpers import noisy_cosine


@pytest.mark.parametrize("likelihood", ["bernoulli", "softmax"])
def test_gibbs_risk_of_labels_matches_draws(likelihood):
    x, y = noisy_cosine()
    labels = (y > 0).long()
    kernel = gpytorch.kernels.RBFKernel()
    gp = bg.GaussianProcess(kernel, likelihood=likelihood, hyperparameters="fixed")
    posterior = gp.fit(x, labels)
    f = posterior.latent_samples(4000)
    chosen = (f[..., 0] > 0).long() if likelihood == "bernoulli" else f.argmax(-1)
    risk = float((chosen != labels).double().mean())
    assert posterior.gibbs_risk() == pytest.approx(risk, abs=5e-3)
    assert posterior.gibbs_risk() < bg.compare({"gp": posterior}).bound["gp"] < 1

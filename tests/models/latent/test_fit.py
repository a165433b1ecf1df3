"""Tests of `bayesgen.models.latent.fit`, `bayesgen.models.latent.objective` and
`bayesgen.models.latent.search`."""

import math

import gpytorch
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

import bayesgen as bg
from bayesgen.covariance.gram import gram
from bayesgen.models.latent.objective import LaplaceEvidence
from tests.models.latent.problems import NAMES, fixed, inputs, targets

F64 = torch.float64


def test_learning_reaches_scikit_learn_optimum():
    x = inputs(60)
    y = targets("bernoulli", x)
    peer = GaussianProcessClassifier(ConstantKernel() * RBF(), random_state=0)
    peer.fit(x.numpy(), y.numpy())
    ours = bg.GaussianProcess(gpytorch.kernels.RBFKernel(), likelihood="bernoulli").fit(x, y)
    want = peer.log_marginal_likelihood_value_
    assert float(ours.evidence.log_marginal_likelihood) > want - 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_gradient_matches_differences(name):
    x = inputs(30)
    likelihood = bg.likelihoods.resolve(name)
    y = likelihood.targets(targets(name, x), x)[0]
    objective = LaplaceEvidence(gram(gpytorch.kernels.RBFKernel().double(), x), likelihood, y)
    noise = None if likelihood.log_noise is None else torch.tensor(-2.0, dtype=F64)

    def value(values):
        noise = None if len(values) == 2 else values[2]
        return objective(values[:1], values[1].exp(), noise)

    at = torch.tensor([0.1, 0.5] if noise is None else [0.1, 0.5, -2.0], dtype=F64)
    _, gradient = value(at)
    for i, step in enumerate(torch.eye(len(at), dtype=F64) * 1e-4):
        slope = (value(at + step)[0] - value(at - step)[0]) / 2e-4
        assert gradient[i] == pytest.approx(slope, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_order_and_decay_are_learnt_under_any_likelihood(name):
    x = inputs(40)[:, 0]
    y = targets(name, inputs(40))
    prior = bg.priors.geometric(2.0)
    start = bg.Polynomial(3, prior, likelihood=name, hyperparameters="fixed").fit(x, y)
    learnt = bg.Polynomial(
        3, prior, likelihood=name, hyperparameters=("scale", "decay", "noise", "order")
    ).fit(x, y)
    gain = learnt.evidence.log_marginal_likelihood - start.evidence.log_marginal_likelihood
    assert gain >= -1e-9
    assert 0 <= int(learnt.order) <= 3


@pytest.mark.parametrize(
    ("name", "y", "message"),
    [
        ("bernoulli", [0, 2, 1], "labels 0 and 1, or two other classes"),
        ("bernoulli", [0.0, 0.5], "labels 0 and 1"),
        ("poisson", [1.5, 2.0], "counts"),
        ("poisson", [-1, 2], "counts"),
        ("softmax", [0, 1, 2], r"shape \(n,\) or \(B, n\)"),
        ("bernoulli", [0.0, math.nan], "must be finite"),
    ],
)
def test_targets_outside_support_raise(name, y, message):
    with pytest.raises(ValueError, match=message):
        fixed(name, inputs(2), torch.tensor(y))


def test_conflicting_arguments_raise():
    with pytest.raises(ValueError, match="likelihood must be one of"):
        bg.LinearModel(likelihood="probit")
    with pytest.raises(ValueError, match="noise must be None"):
        bg.LinearModel(noise=1.0, likelihood="poisson")
    with pytest.raises(ValueError, match="noise must be None"):
        bg.GaussianProcess(gpytorch.kernels.RBFKernel(), 0.1, likelihood="poisson")

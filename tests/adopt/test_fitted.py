"""Tests of `bayesgen.adopt.fitted`: evidences of models that other packages fitted.

Tests of `bayesgen.adopt.kept_data`, `bayesgen.adopt.gpytorch_models`,
`bayesgen.adopt.sklearn_processes` and `bayesgen.adopt.sklearn_linear`.
"""

import copy
import math

import gpytorch
import numpy as np
import pytest
import scipy.stats
import torch
from botorch.models import SingleTaskGP
from botorch.models.transforms import Normalize, Standardize
from hypothesis import given, settings, strategies as st
from sklearn.gaussian_process import GaussianProcessRegressor, kernels as sk
from sklearn.linear_model import ARDRegression, BayesianRidge, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import bayesgen as bg

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 2))
Y = np.sin(X[:, 0]) + 0.1 * RNG.normal(size=30)
NEW = RNG.normal(size=(4, 2))


def value(posterior):
    """The evidence in the units of the source."""
    inner = getattr(posterior, "standardised", posterior)
    return float(inner.evidence.log_marginal_likelihood)


KERNELS = {
    "rbf": sk.RBF() * 1.0,
    "ard": sk.RBF([1.0, 2.0]),
    "matern": 2.0 * sk.Matern(nu=1.5) + sk.DotProduct(0.5),
    "rough": sk.Matern(nu=0.5) * sk.RBF(3.0),
    "rational": sk.RationalQuadratic() * sk.ConstantKernel(),
    "other order": sk.Matern(nu=2.2),
    "power": sk.RBF() ** 2,
    "constant": sk.ConstantKernel(2.0),
    "linear": sk.DotProduct(0.5),
}


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_a_process_of_scikit_learn_has_its_own_evidence_and_predictions(kernel, normalise):
    model = GaussianProcessRegressor(kernel + sk.WhiteKernel(0.1), normalize_y=normalise)
    model.optimizer = None
    model.fit(X, Y)
    found = bg.evidence_of(model)
    assert value(found) == pytest.approx(model.log_marginal_likelihood_value_, abs=1e-8)
    mean, std = model.predict(NEW, return_std=True)
    predicted = found.predict(NEW)
    np.testing.assert_allclose(predicted.mean, mean, atol=1e-8)
    np.testing.assert_allclose(predicted.stddev, std, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(
    lengthscale=st.floats(0.1, 10), scale=st.floats(0.1, 10), noise=st.floats(1e-3, 1),
    alpha=st.floats(1e-10, 1), seed=st.integers(0, 100),
)  # fmt: skip
def test_random_processes_keep_their_evidence(lengthscale, scale, noise, alpha, seed):
    x = np.random.default_rng(seed).normal(size=(15, 1))
    kernel = scale * sk.RBF(lengthscale) + sk.WhiteKernel(noise) + sk.ExpSineSquared(lengthscale)
    model = GaussianProcessRegressor(kernel, alpha=alpha, optimizer=None).fit(
        x, np.cos(3 * x[:, 0])
    )
    found = bg.evidence_of(model)
    assert value(found) == pytest.approx(model.log_marginal_likelihood_value_, abs=1e-7)
    assert found.provenance.unpaid == frozenset()


def test_learnt_hyperparameters_count_as_learnt():
    model = GaussianProcessRegressor(sk.RBF() + sk.WhiteKernel()).fit(X, np.sign(Y))
    found = bg.evidence_of(model)
    assert {"kernel", "noise"} <= found.provenance.unpaid
    with pytest.raises(ValueError, match="kernel"):
        found.certificate()


class Exact(gpytorch.models.ExactGP):
    def __init__(self, x, y, likelihood, kernel):
        super().__init__(x, y, likelihood)
        self.mean_module = gpytorch.means.ConstantMean()
        self.covar_module = kernel

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


@settings(max_examples=10, deadline=None)
@given(
    lengthscale=st.floats(0.2, 5), scale=st.floats(0.2, 5), noise=st.floats(0.01, 1),
    mean=st.floats(-2, 2),
)  # fmt: skip
def test_an_exact_gp_of_gpytorch_has_its_own_evidence(lengthscale, scale, noise, mean):
    x, y = torch.tensor(X), torch.tensor(Y)
    likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
    likelihood.noise = noise
    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())
    model = Exact(x, y, likelihood, kernel).double()
    kernel.base_kernel.lengthscale, kernel.outputscale = lengthscale, scale
    model.mean_module.constant = mean
    before = copy.deepcopy(model.state_dict())
    found = bg.evidence_of(model)
    prior = model.train()(x)
    expected = likelihood(prior).log_prob(y)
    assert value(found) == pytest.approx(float(expected.detach()), abs=1e-8)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert "kernel" in found.provenance.unpaid


@pytest.mark.filterwarnings("ignore:Data .* is not")
@pytest.mark.parametrize("outcome", [None, Standardize(1)], ids=["raw", "standardised"])
@pytest.mark.parametrize("change", [None, Normalize(2)], ids=["raw x", "normalised x"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_single_task_gp_of_botorch_has_its_own_evidence(outcome, change, mode):
    x, y = torch.tensor(X), torch.tensor(40 * Y + 3)[:, None]
    model = SingleTaskGP(
        x, y, input_transform=copy.deepcopy(change), outcome_transform=copy.deepcopy(outcome)
    )
    model.eval()
    found = bg.evidence_of(getattr(model, mode)())
    theirs = model.eval().posterior(torch.tensor(NEW), observation_noise=True)
    predicted = found.predict(torch.tensor(NEW))
    assert torch.allclose(predicted.mean, theirs.mean[:, 0], atol=1e-8)
    assert torch.allclose(predicted.variance, theirs.variance[:, 0], rtol=1e-6)
    model.train()
    expected = model.likelihood(model(*model.train_inputs)).log_prob(model.train_targets)
    assert value(found) == pytest.approx(float(expected.detach()), abs=1e-8)
    if outcome is not None:
        raw = float(found.evidence.log_marginal_likelihood)
        size = float(model.outcome_transform.stdvs)
        assert raw == pytest.approx(value(found) - 30 * math.log(size), abs=1e-8)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("kind", [BayesianRidge, ARDRegression])
def test_a_linear_regression_of_scikit_learn_has_its_own_evidence(kind, intercept):
    x = np.c_[X, RNG.normal(size=(30, 3))]
    y = 3 * x[:, 0] - x[:, 1] + 0.3 * RNG.normal(size=30)
    model = kind(compute_score=True, fit_intercept=intercept, tol=1e-10, max_iter=3000).fit(x, y)
    found = bg.evidence_of(model, x, y)
    priors = np.sum(model.lambda_1 * np.log(model.lambda_) - model.lambda_2 * model.lambda_)
    priors += model.alpha_1 * np.log(model.alpha_) - model.alpha_2 * model.alpha_
    expected = model.scores_[-1] - priors
    if kind is ARDRegression:  # its score leaves this constant out
        expected -= 0.5 * 30 * math.log(2 * math.pi)
    kept = np.ones(5, dtype=bool)
    if kind is ARDRegression:
        kept = model.lambda_ < model.threshold_lambda
    if kept.all():  # the score is no evidence where features were pruned
        assert value(found) == pytest.approx(expected, abs=1e-6)
    phi, z = (x - x.mean(0), y - y.mean()) if intercept else (x, y)
    variance = (1 / np.broadcast_to(model.lambda_, 5))[kept]
    A = (phi[:, kept] * variance) @ phi[:, kept].T + np.eye(30) / model.alpha_
    reference = scipy.stats.multivariate_normal(np.zeros(30), A).logpdf(z)
    assert value(found) == pytest.approx(reference, abs=1e-7)
    mean, std = model.predict(x[:4], return_std=True)
    np.testing.assert_allclose(found.predict(x[:4]).mean, mean, atol=1e-6)
    np.testing.assert_allclose(found.predict(x[:4]).stddev, std, rtol=1e-5)
    with pytest.raises(ValueError, match="must be the data of the fit"):
        bg.evidence_of(model, x, y[::-1])


class Sparse(gpytorch.models.ApproximateGP):
    def __init__(self):
        points = torch.randn(5, 2)
        strategy = gpytorch.variational.VariationalStrategy(
            self, points, gpytorch.variational.CholeskyVariationalDistribution(5)
        )
        super().__init__(strategy)


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        (Sparse, TypeError, "a variational model has a bound and not an evidence"),
        (lambda: make_pipeline(StandardScaler(), BayesianRidge()), TypeError, "its last step"),
        (Ridge, TypeError, "got sklearn.Ridge"),
        (lambda: 3, TypeError, "got builtins.int"),
        (GaussianProcessRegressor, ValueError, "must be fitted"),
        (lambda: BayesianRidge().fit(X, Y), ValueError, "x and y must be given"),
        (
            lambda: GaussianProcessRegressor(sk.RBF() * sk.WhiteKernel(), optimizer=None).fit(X, Y),
            TypeError,
            "as a term of its sum only",
        ),
    ],
)
def test_what_has_no_evidence_is_refused_in_one_sentence(model, error, words):
    with pytest.raises(error, match=words):
        bg.evidence_of(model())


def test_given_data_are_compared_with_those_kept():
    model = GaussianProcessRegressor(sk.RBF(), alpha=0.1, normalize_y=True, optimizer=None)
    found = bg.evidence_of(model.fit(X, Y), X, Y)
    ridge = BayesianRidge().fit(X, Y)
    table = bg.compare({"process": found, "ridge": bg.evidence_of(ridge, X, Y)})
    assert set(table.index) == {"process", "ridge", "null"}
    with pytest.raises(ValueError, match="y must be the data of the fit"):
        bg.evidence_of(model, X, Y[::-1])
    with pytest.raises(ValueError, match="x must be the data of the fit"):
        bg.evidence_of(model, X + 1, Y)

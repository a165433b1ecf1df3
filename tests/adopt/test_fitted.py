"""Tests of `bayesgen.adopt.fitted`: evidences of models that other packages fitted.

Tests of `bayesgen.adopt.kept_data`, `bayesgen.adopt.gpytorch_models`,
`bayesgen.adopt.sklearn_processes` and `bayesgen.adopt.sklearn_linear`.
"""

import copy
import math

import gpytorch
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from botorch.models import SingleTaskGP
from botorch.models.transforms import Normalize, Standardize
from hypothesis import given, settings, strategies as st
from sklearn.gaussian_process import GaussianProcessRegressor, kernels as sk
from sklearn.linear_model import ARDRegression, BayesianRidge, Ridge
from sklearn.model_selection import GridSearchCV
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
        (lambda: BayesianRidge, TypeError, "got the class BayesianRidge"),
        (
            lambda: GridSearchCV(BayesianRidge(), {"alpha_1": [1e-6]}, cv=2).fit(X, Y),
            TypeError,
            "pass its best_estimator_",
        ),
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
    with pytest.raises(ValueError, match=r"x must be the data of the fit, of shape \(30, 2\)"):
        bg.evidence_of(model, X.reshape(2, 30), Y)
    with pytest.raises(ValueError, match=r"y must be the data of the fit, of shape \(30,\)"):
        bg.evidence_of(model, X, Y[:5])
    assert value(bg.evidence_of(model, X.astype(np.float32), Y[:, None])) == pytest.approx(
        value(found), abs=1e-4
    )


def exact_gp(y):
    x, y = torch.tensor(X), torch.tensor(y)
    likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())
    kernel = kernel + gpytorch.kernels.ScaleKernel(gpytorch.kernels.MaternKernel())
    return Exact(x, y, likelihood, kernel).double()


PEERS = {
    "gpytorch": lambda y: bg.evidence_of(exact_gp(y)),
    "botorch": lambda y: bg.evidence_of(
        SingleTaskGP(torch.tensor(X), torch.tensor(y)[:, None], outcome_transform=Standardize(1))
    ),
    "sklearn process": lambda y: bg.evidence_of(
        GaussianProcessRegressor(sk.RBF() + sk.Matern() + sk.WhiteKernel(), normalize_y=True).fit(
            X, y
        )
    ),
    "BayesianRidge": lambda y: bg.evidence_of(BayesianRidge().fit(X, y), X, y),
    "ARDRegression": lambda y: bg.evidence_of(ARDRegression().fit(X, y), X, y),
}


@pytest.mark.filterwarnings("ignore:Data .* is not")
@pytest.mark.parametrize("peer", PEERS)
def test_an_adopted_model_has_the_methods_of_a_posterior(peer):
    found = PEERS[peer](Y)
    evidence = found.evidence
    parts = evidence.fit - evidence.complexity
    assert float(parts) == pytest.approx(float(evidence.log_marginal_likelihood))
    assert "n = 30" in str(found.summary())
    exported = found.to_arviz(draws=20)
    assert {"posterior", "observed_data"} <= set(exported.groups())
    draws = found.latent_samples(4_000)
    spread = found.predict(X, latent=True).stddev
    centre = draws.reshape(4_000, -1).mean(0)
    assert torch.allclose(centre, found.fitted().reshape(-1), atol=5 * float(spread.max()) / 63)


@pytest.mark.filterwarnings("ignore:Data .* is not")
@pytest.mark.parametrize("peer", PEERS)
def test_an_adopted_model_that_was_fitted_to_the_data_has_no_certificate(peer):
    with pytest.raises(ValueError, match="certificate"):
        PEERS[peer](np.sign(Y)).certificate()


def test_an_adopted_model_of_stated_hyperparameters_has_a_certificate():
    y = np.sign(Y)
    model = GaussianProcessRegressor(sk.RBF(), alpha=0.5, optimizer=None).fit(X, y)
    own = gpytorch.kernels.RBFKernel().double()
    own.lengthscale = 1.0
    same = bg.GaussianProcess(own, 0.5, hyperparameters="fixed").fit(X, y)
    expected = same.certificate().bound
    assert bg.evidence_of(model).certificate().bound == pytest.approx(expected, abs=1e-9)


@pytest.mark.filterwarnings("ignore:Data .* is not")
@pytest.mark.parametrize("peer", ["gpytorch", "sklearn process"])
def test_the_components_of_an_adopted_process_sum_to_its_mean(peer):
    found = PEERS[peer](Y)
    new = torch.tensor(NEW)
    parts = found.components(new)
    total = sum(part.mean for part in parts.values()) + parts.prior_mean
    assert torch.allclose(total, found.mean(new).reshape(-1), atol=1e-8)
    assert len(parts) == 2


class OwnForward(gpytorch.models.ExactGP):
    """A process whose forward may do more than call its mean and its kernel."""

    def __init__(self, kind="plain", likelihood=None, kernel=None):
        likelihood = gpytorch.likelihoods.GaussianLikelihood() if likelihood is None else likelihood
        super().__init__(torch.from_numpy(X), torch.from_numpy(Y), likelihood)
        self.kind, self.net = kind, torch.nn.Linear(2, 2)
        self.dropout = torch.nn.Dropout(0.5)
        self.mean_module = gpytorch.means.ConstantMean()
        self.mean_module.initialize(constant=0.7)
        self.covar_module = gpytorch.kernels.RBFKernel() if kernel is None else kernel
        self.double()

    def forward(self, x):
        mean = self.mean_module(x)
        if self.kind == "deep":
            x = torch.tanh(self.net(x))
        elif self.kind == "dropout":
            x = self.dropout(x)
        elif self.kind == "column":
            x = x[:, :1]
        elif self.kind == "mean":
            mean = 2 * mean
        covariance = self.covar_module(x)
        if self.kind == "scaled":
            covariance = 2 * covariance
        elif self.kind == "jitter":
            covariance = covariance.add_jitter(0.01)
        return gpytorch.distributions.MultivariateNormal(mean, covariance)


class Tripled(gpytorch.kernels.ScaleKernel):
    def forward(self, x1, x2, **params):
        return 3 * super().forward(x1, x2, **params)


@pytest.mark.parametrize("kind", ["deep", "dropout", "column", "mean", "scaled", "jitter"])
def test_a_forward_with_another_prior_is_refused(kind):
    before = torch.get_rng_state()
    model = OwnForward(kind).eval()
    state = torch.get_rng_state()
    with pytest.raises(TypeError, match=r"but OwnForward has another.*bayesgen.DeepKernel"):
        bg.evidence_of(model)
    assert not model.training
    assert not model.likelihood.training
    assert torch.equal(torch.get_rng_state(), state)
    torch.set_rng_state(before)


def test_a_subclass_of_a_kernel_with_another_covariance_is_refused():
    with pytest.raises(TypeError, match="but OwnForward has another"):
        bg.evidence_of(OwnForward(kernel=Tripled(gpytorch.kernels.RBFKernel())))


def test_additional_noise_is_counted_once():
    given = torch.linspace(0.1, 0.3, 30, dtype=torch.float64)
    likelihood = gpytorch.likelihoods.FixedNoiseGaussianLikelihood(
        given, learn_additional_noise=True
    )
    likelihood.second_noise = 0.2
    model = OwnForward(likelihood=likelihood)
    found = bg.evidence_of(model)
    distance = ((X[:, None] - X[None]) / float(model.covar_module.lengthscale.detach())) ** 2
    A = np.exp(-0.5 * distance.sum(-1)) + np.diag(given.numpy() + 0.2)
    reference = scipy.stats.multivariate_normal(np.full(30, 0.7), A).logpdf(Y)
    assert value(found) == pytest.approx(reference, abs=1e-6)


@pytest.mark.filterwarnings("ignore:Data ")
@pytest.mark.parametrize("train", [True, False])
def test_a_transform_of_new_inputs_alone_is_refused_and_left_as_it_was(train):
    change = Normalize(2, transform_on_train=False)
    model = SingleTaskGP(torch.from_numpy(X), torch.from_numpy(Y)[:, None], input_transform=change)
    model.train(train)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(TypeError, match="to training and new inputs alike, got Normalize"):
        bg.evidence_of(model)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.filterwarnings("ignore:The model inputs are of type", "ignore:Data ")
@pytest.mark.parametrize("change", [None, Normalize(2)])
def test_a_single_task_gp_in_single_precision_is_read(change):
    x, y = torch.from_numpy(X).float(), torch.from_numpy(Y)[:, None].float()
    found = bg.evidence_of(SingleTaskGP(x, y, input_transform=change))
    wide = bg.evidence_of(SingleTaskGP(x.double(), y.double(), input_transform=change))
    assert value(found) == pytest.approx(value(wide), abs=1e-2)


@pytest.mark.filterwarnings("ignore:Data ")
@pytest.mark.parametrize("shape", [(30, 2), (2, 30, 1)])
def test_several_outputs_are_refused(shape):
    x = torch.from_numpy(X).expand(*shape[:-2], 30, 2).clone()
    model = SingleTaskGP(x, torch.randn(shape, dtype=torch.float64))
    with pytest.raises(TypeError, match="must be of one input tensor and one output"):
        bg.evidence_of(model)


class Louder(sk.WhiteKernel):
    def __call__(self, X, Y=None, eval_gradient=False):
        return 2 * super().__call__(X, Y)

    def diag(self, X):
        return 2 * super().diag(X)


def test_a_process_that_was_changed_or_has_other_covariances_is_refused():
    model = GaussianProcessRegressor(sk.RBF() + Louder(0.1), optimizer=None).fit(X, Y)
    with pytest.raises(ValueError, match="must have the covariances of its fit"):
        bg.evidence_of(model)
    model = GaussianProcessRegressor(sk.RBF() + sk.WhiteKernel(0.1), optimizer=None).fit(X, Y)
    model.kernel_ = sk.RBF(3.0) + sk.WhiteKernel(0.1)
    with pytest.raises(ValueError, match="must have the covariances of its fit"):
        bg.evidence_of(model)


@pytest.mark.parametrize("kind", [BayesianRidge, ARDRegression])
def test_other_data_of_a_linear_regression_are_refused(kind):
    model = kind().fit(X, Y)
    for x, y in ((X, Y + 1), (X + 1, Y)):  # the coefficients are the same
        with pytest.raises(ValueError, match="the intercept of the"):
            bg.evidence_of(model, x, y)
    with pytest.raises(ValueError, match=r"y must have shape \(n,\)"):
        bg.evidence_of(model, X, np.stack([Y, Y], 1))
    with pytest.raises(TypeError, match="x must hold numbers, but column 'a'"):
        bg.evidence_of(model, pd.DataFrame({"a": ["text"] * 30, "b": Y}), Y)


def test_weighted_observations_are_refused():
    model = BayesianRidge().fit(X, Y, sample_weight=np.linspace(0.5, 2, 30))
    with pytest.raises(ValueError, match="all of weight 1"):
        bg.evidence_of(model, X, Y)


def test_a_linear_regression_without_pruning_is_saved(tmp_path):
    found = bg.evidence_of(BayesianRidge().fit(X, Y), X, Y)
    found.save(tmp_path / "ridge.bayesgen")
    assert torch.equal(bg.load(tmp_path / "ridge.bayesgen").mean(NEW), found.mean(NEW))


@pytest.mark.parametrize("noise", [0.05, 0.3, 0.7, 1.9])
def test_noise_that_float32_cannot_hold_is_compared_in_the_precision_of_the_model(noise):
    x, y = torch.tensor(X), torch.tensor(Y)
    likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
    likelihood.noise = torch.tensor(noise, dtype=torch.float64)  # gpytorch rounds Python numbers
    kernel = gpytorch.kernels.RBFKernel()
    found = bg.evidence_of(Exact(x, y, likelihood, kernel).double())
    assert float(found.noise) == pytest.approx(noise, rel=1e-12)

"""Tests of `bayesgen.models.summary` and of `bayesgen.models.log_evidence`."""

import gpytorch
import numpy as np
import pytest
import torch

import bayesgen as bg
from bayesgen.models.log_evidence import LogEvidence

N = 60
torch.manual_seed(0)
X = 4 * torch.rand(N, 1, dtype=torch.float64)
Y = torch.sin(2 * X[:, 0]) + 0.2 * torch.randn(N, dtype=torch.float64)


def hessian_of(log_density, point):
    """The Hessian by automatic differentiation, as an independent reference."""
    return torch.autograd.functional.hessian(log_density, torch.tensor(point)).numpy()


def test_standard_errors_are_those_of_the_hessian_of_the_log_density():
    posterior = bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit(X, Y)
    table = posterior.summary().hyperparameters
    point = np.log(table["value"].to_numpy(float))

    def log_density(z):
        lengthscale, scale, noise = z.exp()
        K = scale * torch.exp(-0.5 * ((X - X.T) / lengthscale) ** 2)
        A = K + noise * torch.eye(N, dtype=torch.float64)
        zero = torch.zeros(N, dtype=torch.float64)
        return torch.distributions.MultivariateNormal(zero, A).log_prob(Y)

    expected = np.sqrt(np.linalg.inv(-hessian_of(log_density, point)).diagonal())
    np.testing.assert_allclose(table["se_log"], expected, rtol=1e-3)
    np.testing.assert_allclose(
        table["upper"], table["value"] * np.exp(1.959964 * expected), rtol=1e-3
    )
    assert table["unit"].tolist() == ["units of x", "units of y²", "units of y²"]
    assert table["learnt"].all()


def test_standard_errors_of_a_linear_model_include_its_decay():
    model = bg.LinearModel(bg.bases.Polynomial(8), bg.priors.geometric(2.0))
    posterior = model.fit(X / 4, Y)
    table = posterior.summary().hyperparameters
    Phi = posterior.features(X / 4)
    orders = torch.arange(9, dtype=torch.float64)

    def log_density(z):
        scale, noise, decay = z.exp()
        A = (Phi * scale * decay**-orders) @ Phi.T + noise * torch.eye(N, dtype=torch.float64)
        zero = torch.zeros(N, dtype=torch.float64)
        return torch.distributions.MultivariateNormal(zero, A).log_prob(Y)

    point = np.log(table.loc[["scale", "noise", "decay"], "value"].to_numpy(float))
    value = float(log_density(torch.tensor(point)))
    assert value == pytest.approx(float(posterior.evidence.log_marginal_likelihood), abs=1e-6)
    expected = np.sqrt(np.linalg.inv(-hessian_of(log_density, point)).diagonal())
    np.testing.assert_allclose(
        table.loc[["scale", "noise", "decay"], "se_log"].astype(float), expected, rtol=1e-2
    )


def test_a_decay_on_the_edge_of_its_range_is_said():
    model = bg.LinearModel(bg.bases.Polynomial(4), bg.priors.geometric(1.5))
    summary = model.fit(X / 4, Y).summary()
    table = summary.hyperparameters
    assert table["at_bound"].tolist() == [False, False, True]
    assert table["se_log"].isna().tolist() == [False, False, True]
    assert "decay lies on the edge" in str(summary)


def test_an_evidence_without_a_maximum_has_no_standard_errors():
    free = np.array([True, True])
    saddle = LogEvidence(np.zeros(2), lambda z: np.array([-z[0], z[1]]), {}, free, free)
    assert np.isnan(saddle.standard_errors()).all()
    flat = LogEvidence(np.zeros(2), lambda z: np.array([-z[0], 0.0]), {}, free, free)
    assert np.isnan(flat.standard_errors()).all()
    half = LogEvidence(np.zeros(2), lambda z: -4 * z, {}, free, np.array([True, False]))
    np.testing.assert_allclose(half.standard_errors(), [0.5, np.nan])


def test_values_that_were_kept_have_no_standard_error():
    model = bg.GaussianProcess(
        gpytorch.kernels.RBFKernel(), noise=0.04, hyperparameters=("kernel", "scale")
    )
    table = model.fit(X, Y).summary().hyperparameters
    assert not table.loc["noise", "learnt"]
    assert np.isnan(table.loc["noise", "se_log"])
    assert table.loc["scale", "se_log"] > 0


@pytest.mark.parametrize("likelihood", ["bernoulli", "poisson", "student-t", "softmax"])
def test_every_likelihood_has_a_summary(likelihood):
    targets = {
        "bernoulli": Y > 0,
        "softmax": (Y > 0).long() + (Y > 0.7),
        "poisson": (Y.exp()).round(),
        "student-t": Y,
    }[likelihood]
    model = bg.GaussianProcess(gpytorch.kernels.RBFKernel(), likelihood=likelihood)
    summary = model.fit(X, targets).summary()
    assert (summary.hyperparameters["se_log"] > 0).all()
    assert "log marginal likelihood" in str(summary)


def test_the_summary_adds_up_and_says_what_to_be_careful_about():
    posterior = bg.LinearModel().fit(X, Y, standardise=True)
    summary = posterior.summary()
    parts = summary.evidence["value"]
    assert parts["fit"] - parts["complexity"] == pytest.approx(parts["log marginal likelihood"])
    assert summary.hyperparameters.loc["noise", "unit"] == "standardised y²"
    assert "the prior depends on the data" in str(summary)
    assert "<table" in summary._repr_html_()
    quick = posterior.summary(standard_errors=False)
    assert quick.hyperparameters["se_log"].isna().all()


def test_networks_have_a_summary():
    net = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    net = net.double()
    run = bg.train(net, X, Y[:, None], "gaussian", epochs=30, evidence_every=10, to_mode=True)
    fixed = {"noise": run.noise, "hyperparameters": "fixed"}
    posterior = bg.Laplace(net, "gaussian", run.prior_precision, **fixed).fit(X, Y[:, None])
    table = posterior.summary().hyperparameters
    assert [name.startswith("prior_precision of") for name in table.index] == [True, True, False]
    assert table.loc["noise", "value"] == pytest.approx(float(run.noise))


def test_a_batch_is_refused():
    tasks = bg.LinearModel(noise=0.1).fit(X, torch.stack([Y, 2 * Y])[..., None])
    with pytest.raises(ValueError, match=r"posterior.task\(0\).summary\(\)"):
        tasks.summary()
    assert len(tasks.task(1).summary().hyperparameters) == 2

"""Tests of `bayesgen.models.gp.lengthscale_search`."""

import gpytorch
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor, kernels as sk

from bayesgen import GaussianProcess, kernels

SKLEARN = {
    "rbf": lambda ell: sk.RBF(ell),
    "matern12": lambda ell: sk.Matern(ell, nu=0.5),
    "matern32": lambda ell: sk.Matern(ell, nu=1.5),
    "matern52": lambda ell: sk.Matern(ell, nu=2.5),
}


@pytest.mark.parametrize("name", sorted(SKLEARN))
def test_learnt_evidence_reaches_scikit_learn(regression, name):
    x, ys = regression
    y = ys[:, :, 0]
    posterior = GaussianProcess(kernels.named(name), tolerance=1e-6).fit(x, y[..., None])
    for b in range(3):
        kernel = sk.ConstantKernel(1.0, (1e-8, 1e8)) * SKLEARN[name](1.0) + sk.WhiteKernel(
            0.1, (1e-9, 1e3)
        )
        kernel = kernel.clone_with_theta(kernel.theta)
        reference = GaussianProcessRegressor(
            kernel, alpha=0, n_restarts_optimizer=3, random_state=0
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", lambda *a, **k: None)
            reference.fit(x.numpy(), y[b].numpy())
        got = posterior.evidence.log_marginal_likelihood[b].item()
        assert got >= reference.log_marginal_likelihood_value_ - 1e-3
    assert posterior.spectra <= 40


def test_lengthscale_constraint_is_respected(regression):
    x, ys = regression
    kernel = gpytorch.kernels.RBFKernel(lengthscale_constraint=gpytorch.constraints.Interval(2, 5))
    posterior = GaussianProcess(kernel).fit(x, ys[0])
    assert 2 <= posterior.lengthscale.item() <= 5
    assert posterior.at_bound


def test_limit_of_spectra_warns(regression):
    x, ys = regression
    gp = GaussianProcess(kernels.named("rbf"), tolerance=1e-12, max_spectra=3)
    with pytest.warns(RuntimeWarning, match="stopped at 3 spectra"):
        gp.fit(x, ys)

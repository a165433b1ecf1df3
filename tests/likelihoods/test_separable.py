"""Tests of `bayesgen.likelihoods.separable`."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from bayesgen.likelihoods import Bernoulli, Gaussian, Poisson, StudentT
from bayesgen.likelihoods.likelihood import Separable

F64 = torch.float64
F = torch.linspace(-2, 2, 6, dtype=F64)[:, None]
CASES = {
    "gaussian": (Gaussian(0.3), F.flip(0) / 2),
    "bernoulli": (Bernoulli(), torch.tensor([0, 1, 1, 0, 1, 0.0]).double()[:, None]),
    "poisson": (Poisson(), torch.tensor([0, 1, 5, 2, 0, 9.0]).double()[:, None]),
    "student-t": (StudentT(5.0, 0.3), F.flip(0) / 2),
}
PEERS = {
    "gaussian": lambda f: stats.norm(f, 0.3**0.5).logpdf,
    "bernoulli": lambda f: stats.bernoulli(1 / (1 + np.exp(-f))).logpmf,
    "poisson": lambda f: stats.poisson(np.exp(f)).logpmf,
    "student-t": lambda f: stats.t(5.0, f, 0.3**0.5).logpdf,
}


@pytest.mark.parametrize("name", CASES)
def test_densities_match_scipy(name):
    likelihood, y = CASES[name]
    want = PEERS[name](F.numpy())(y.numpy())
    np.testing.assert_allclose(likelihood.element(y, F), want, rtol=1e-10)
    torch.testing.assert_close(likelihood.log_density(y, F), torch.as_tensor(want).sum(-1))
    np.testing.assert_allclose(likelihood.observe(F).log_prob(y), want, rtol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_derivatives_match_autograd(name):
    likelihood, y = CASES[name]
    for got, want in zip(
        likelihood.derivatives(y, F), Separable.derivatives(likelihood, y, F), strict=True
    ):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("name", CASES)
def test_curvature_bounds_the_second_derivative_and_is_not_negative(name):
    likelihood, _ = CASES[name]
    f = torch.linspace(-6, 6, 50, dtype=F64)[:, None]
    y = torch.ones(50, 1, dtype=F64)
    second = -likelihood.derivatives(y, f).second
    bound = likelihood.curvature(y, f)
    assert (bound >= second - 1e-12).all()
    assert (bound >= 0).all()


@pytest.mark.parametrize(("name", "seen"), [("bernoulli", 1.0), ("poisson", 3.0)])
def test_predictive_probability_matches_quadrature(name, seen):
    likelihood, _ = CASES[name]
    mean, sd = 0.4, 0.8

    def integrand(f):
        return np.exp(PEERS[name](f)(seen)) * stats.norm.pdf(f, mean, sd)

    want = integrate.quad(integrand, mean - 10 * sd, mean + 10 * sd)[0]
    found = likelihood.predictive(torch.tensor([mean]).double(), torch.tensor([sd**2]).double())
    got = found.log_prob(torch.tensor([seen], dtype=F64)).exp()
    assert float(got) == pytest.approx(want, rel=1e-6)


def test_gaussian_predictive_adds_the_noise_and_its_slope_matches_differences():
    likelihood, y = CASES["gaussian"]
    found = likelihood.predictive(F, torch.full_like(F, 0.2))
    torch.testing.assert_close(found.variance, torch.full_like(F, 0.5))
    up, down = (Gaussian(0.3 * np.exp(h)).log_density(y, F).sum() for h in (1e-5, -1e-5))
    slope = likelihood.noise_slope(y, F)
    assert float(slope) == pytest.approx(float(up - down) / 2e-5, rel=1e-6)


def test_probit_approximation_is_close_to_the_average():
    mean, variance = torch.linspace(-2, 2, 9, dtype=F64), torch.full((9,), 1.5, dtype=F64)
    exact = Bernoulli().predictive(mean, variance).probs
    torch.testing.assert_close(Bernoulli().probit(mean, variance).probs, exact, atol=0.02, rtol=0)


def test_errors_of_labels_are_wrong_signs():
    f = torch.tensor([[0.5], [-0.5], [2.0]], dtype=F64)
    y = torch.tensor([[1.0], [1.0], [0.0]], dtype=F64)
    assert Bernoulli().errors(y, f).tolist() == [False, True, True]
    assert Bernoulli().num_guesses(1) == 2


@pytest.mark.parametrize(
    ("likelihood", "y", "message"),
    [
        (Bernoulli(), [0.0, 0.5], "labels 0 and 1"),
        (Poisson(), [1.5, 1.0], "counts 0, 1, 2"),
        (Poisson(), [-1.0, 1.0], "counts 0, 1, 2"),
    ],
)
def test_targets_outside_support_raise(likelihood, y, message):
    with pytest.raises(ValueError, match=message):
        likelihood.targets(torch.tensor(y, dtype=F64), torch.zeros(2, 1, dtype=F64))


@pytest.mark.parametrize(
    "make", [lambda: Gaussian(0.0), lambda: StudentT(0.0), lambda: StudentT(3.0, -1.0)]
)
def test_settings_that_are_not_positive_raise(make):
    with pytest.raises(ValueError, match="must be positive"):
        make()

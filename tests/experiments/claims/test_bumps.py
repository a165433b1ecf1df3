"""Tests of `bayesgen.experiments.claims.bumps` and of `bayesgen.plots.claims`."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from bayesgen.experiments import bumps
from bayesgen.experiments.claims.bumps import PRIORS, _features


@pytest.fixture(scope="module")
def result():
    return bumps([2, 4, 8, 20, 100, 1000], n=30, repetitions=5)


def test_evidence_rises_to_that_of_the_gaussian_process_and_does_not_fall(result):
    gap = result.log_marginal_likelihood - result.gp_log_marginal_likelihood
    assert float(abs(gap.sel(k=1000, prior=list(PRIORS[:2]))).max()) < 1e-3
    mean = result.log_marginal_likelihood.mean("repetition")
    for prior in PRIORS[:2]:
        values = mean.sel(prior=prior)
        assert float(values[-1] - values[0]) > 10
        assert float(values.max() - values[-1]) < 1
    assert (result.kernel_error.diff("k")[1:] <= 1e-9).all()
    assert result.attrs["holds"] == "yes"


def test_evidence_falls_where_the_prior_variance_is_not_scaled(result):
    mean = result.log_marginal_likelihood.mean("repetition").sel(prior=PRIORS[2])
    assert float(mean.max("k") - mean.sel(k=1000)) > 10


def test_evidence_is_the_log_density_of_the_data(result):
    x = torch.linspace(-1, 1, 30, dtype=torch.float64)[:, None]
    Phi, variance = (np.asarray(part) for part in _features(x, 8, 0.3))
    generator = torch.Generator().manual_seed(0)
    error = torch.randn(5, 30, 1, generator=generator, dtype=torch.float64)
    y = np.sin(1.5 * np.pi * x.numpy()) + x.numpy() / 2 + 0.1 * error[3].numpy()
    for prior, scale in ((PRIORS[0], variance), (PRIORS[2], 1.0)):
        covariance = scale * Phi @ Phi.T + 0.01 * np.eye(30)
        want = multivariate_normal(np.zeros(30), covariance).logpdf(y[:, 0])
        found = result.log_marginal_likelihood.sel(k=8, prior=prior, repetition=3)
        np.testing.assert_allclose(found, want, rtol=1e-8)


def test_figure_draws(result):
    assert len(bumps.plot(result).axes) == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"counts": [5, 2]}, "counts must be increasing numbers"),
        ({"counts": [1]}, "counts must be"),
        ({"noise": 0.0}, "noise must be"),
        ({"repetitions": 0}, "repetitions must be"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        bumps(**settings)

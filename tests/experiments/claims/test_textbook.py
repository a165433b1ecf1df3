"""Tests of `bayesgen.experiments.claims.textbook`."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from bayesgen.experiments import textbook_orders


@pytest.fixture(scope="module")
def result():
    return textbook_orders(scalings=[0.0, 2.0, 3.0], largest=30, repetitions=15)


def test_evidence_of_a_fixed_prior_peaks_at_an_intermediate_order(result):
    mean = result.polynomial_log_marginal_likelihood.mean("repetition").values
    assert 2 < mean.argmax() < 7
    assert mean.max() - mean[-1] > 0.5
    assert mean.max() - mean[0] > 5


def test_scaled_variances_remove_the_fall_with_the_order(result):
    mean = result.fourier_log_marginal_likelihood.mean("repetition")
    fall = (mean.max("order") - mean.isel(order=-1)).values
    assert fall[0] > 5
    assert (fall[1:] < 0.5).all()
    assert result.attrs["holds"] == "yes"


def test_polynomial_evidence_is_the_log_density_of_the_data(result):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(15, 10, 1, generator=generator, dtype=torch.float64).numpy()
    x = np.linspace(0, 1, 10)
    y = np.sin(2 * np.pi * x) + noise[4, :, 0] / np.sqrt(11.1)
    for degree in (0, 3, 9):
        Phi = np.vander(x, degree + 1, increasing=True)
        covariance = Phi @ Phi.T / 5e-3 + np.eye(10) / 11.1
        want = multivariate_normal(np.zeros(10), covariance).logpdf(y)
        found = result.polynomial_log_marginal_likelihood.sel(degree=degree, repetition=4)
        np.testing.assert_allclose(found, want, rtol=1e-6)


def test_figure_draws(result):
    assert len(textbook_orders.plot(result).axes) == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"scalings": [-1.0]}, "scalings must be finite and at least 0"),
        ({"scalings": []}, "scalings must be"),
        ({"largest": 0}, "largest must be"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        textbook_orders(**settings)

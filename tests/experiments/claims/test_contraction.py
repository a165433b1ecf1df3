"""Tests of `bayesgen.experiments.claims.contraction`."""

import numpy as np
import pytest
import torch

from bayesgen.experiments import posterior_contraction
from bayesgen.experiments.claims.contraction import _cell


@pytest.fixture(scope="module")
def result():
    return posterior_contraction([5, 20, 100, 500], features=50, repetitions=4)


def test_posterior_contracts_and_the_gap_closes(result):
    mean = result.mean("repetition")
    assert (mean.effective_dimension.diff("n") > 0).all()
    assert (mean.log_volume.diff("n") < 0).all()
    gap = mean.test_mse - mean.train_mse
    assert (gap.isel(n=-1) < 0.1 * gap.isel(n=0)).all()
    assert (mean.effective_dimension < 50).all()
    assert result.attrs["holds"] == "yes"


def test_values_are_those_of_the_posterior_covariance():
    rng = np.random.default_rng(0)
    noise, n, p = 0.1, 12, 7
    Phi, y = rng.normal(size=(2, n + 1000, p)), rng.normal(size=(2, n + 1000, 1))
    found = _cell(torch.as_tensor(Phi), torch.as_tensor(y), n, noise)
    for i in range(2):
        A = Phi[i, :n]
        covariance = np.linalg.inv(np.eye(p) + A.T @ A / noise)
        mean = covariance @ A.T @ y[i, :n] / noise
        want = [
            p - np.trace(covariance),  # the trace of the prior less that of the posterior
            0.5 * np.linalg.slogdet(covariance)[1],
            np.mean((A @ mean - y[i, :n]) ** 2),
            np.mean((Phi[i, n:] @ mean - y[i, n:]) ** 2),
        ]
        np.testing.assert_allclose(found[:4, i], want, rtol=1e-8)


def test_figure_draws(result):
    assert len(posterior_contraction.plot(result).axes) == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sizes": [20, 10]}, "sizes must be increasing numbers"),
        ({"sizes": [5]}, "sizes must be increasing numbers, two or more"),
        ({"features": 1}, "features must be"),
        ({"noise": -1.0}, "noise must be"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        posterior_contraction(**settings)

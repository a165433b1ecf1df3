"""Tests of `bayesgen.experiments.double_descent` and of `bayesgen.plots.double_descent`."""

import numpy as np
import pytest

from bayesgen import plots
from bayesgen.experiments import double_descent


@pytest.fixture(scope="module")
def result():
    columns = [10, 30, 60, 90, 100, 110, 150, 300, 600]
    return double_descent(columns, n=100, seeds=9, data="digits", train=60, draws=2)


def test_error_peaks_at_n_and_the_ridge_removes_the_peak(result):
    middle = result.median("seed")
    assert int(middle.mse.argmax("d")) == 4
    assert float(middle.mse.sel(d=100)) > 20 * float(middle.ridge_mse.sel(d=100))
    assert (middle.ridge_mse.values[1:] < 1.1 * middle.ridge_mse.values[:-1]).all()
    assert (middle.log_marginal_likelihood_per_observation.diff("d") > 0).all()
    assert result.attrs["holds"] == "partly"  # N_eff never falls.


def test_effective_dimension_never_decreases_and_that_of_the_notebook_does(result):
    assert (result.effective_dimension.diff("d") >= -1e-9).all()
    notebook = result.notebook_dimension.median("seed")
    assert float(notebook.sel(d=100)) > 4 * float(notebook.sel(d=600))


def test_ridge_removes_the_peak_of_random_features(result):
    middle = result.median("draw")
    at = middle.sel(share=1.0)
    assert (at.feature_mse > 10 * middle.sel(share=8.0).feature_mse).all()
    assert (middle.ridge_feature_mse.max("share") < 1.0).all()
    assert (
        middle.feature_evidence_per_observation.isel(share=-1)
        > at["feature_evidence_per_observation"]
    ).all()


def test_values_are_those_of_numpy():
    result = double_descent([5, 8, 12], n=8, seeds=2, data=())
    # The draws are made as in the experiment.
    import torch

    generator = torch.Generator().manual_seed(0)
    y = torch.randn(2, 16, 1, generator=generator, dtype=torch.float64)
    X = (torch.randn(2, 16, 12, generator=generator, dtype=torch.float64) + y).numpy()
    y = y.numpy()
    for i, d in enumerate([5, 8, 12]):
        for seed in range(2):
            A = X[seed, :8, :d]
            w = np.linalg.pinv(A) @ y[seed, :8]
            gap = X[seed, 8:, :d] @ w - y[seed, 8:]
            want = np.linalg.norm(gap) / np.linalg.norm(y[seed, 8:])
            np.testing.assert_allclose(result.relative_error[i, seed], want, rtol=1e-6)
            s = np.linalg.svd(A, compute_uv=False) ** 2
            np.testing.assert_allclose(result.effective_dimension[i, seed], (s / (s + 1)).sum())
            want = min(8, d) - (s / (s + 0.2)).sum()
            np.testing.assert_allclose(result.notebook_dimension[i, seed], want, rtol=1e-6)
            np.testing.assert_allclose(result.rank_square[i, seed], s.sum() ** 2 / (s**2).sum())


@pytest.mark.slow
def test_reference_values_of_the_notebook():
    result = double_descent([100, 200, 400, 1000], seeds=20, data=()).median("seed")
    np.testing.assert_allclose(result.relative_error, [0.146, 1.418, 0.069, 0.036], rtol=0.3)
    np.testing.assert_allclose(result.effective_dimension, [99.0, 186.3, 199, 199.8], rtol=0.01)
    np.testing.assert_allclose(result.notebook_dimension, [0.20, 6.49, 0.20, 0.05], rtol=0.2)
    np.testing.assert_allclose(result.ridge_mse, [0.0146, 0.0080, 0.0047, 0.0013], rtol=0.2)
    np.testing.assert_allclose(
        result.log_marginal_likelihood_per_observation, [0.588, 0.819, 1.033, 1.157], rtol=0.05
    )


def test_figures_draw(result):
    assert len(double_descent.plot(result).axes) == 8
    assert len(plots.double_descent(double_descent([5, 9], n=8, seeds=2, data=())).axes) == 4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"columns": []}, "columns must be increasing numbers"),
        ({"columns": [3, 2]}, "columns must be increasing numbers"),
        ({"n": 1}, "n must be"),
        ({"data": "letters"}, "data must be one of"),
        ({"seeds": 0}, "seeds must be"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        double_descent(**settings)

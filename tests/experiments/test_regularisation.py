"""Tests of `bayesgen.experiments.regularisation`."""

import numpy as np

from bayesgen import experiments


def test_structured_data_are_fitted_and_noise_is_interpolated():
    result = experiments.flexible_polynomial()
    assert (result.train_rmse < 1e-3).all()
    gap = (result.fitted - result.truth)[:2]
    assert float(np.sqrt((gap**2).mean())) < 0.05


def test_regularised_model_is_best_or_within_one_deviation():
    rmse = experiments.soft_against_hard(sizes=[10, 40, 100], repetitions=60).test_rmse
    mean, sd = rmse.mean("repetition"), rmse.std("repetition")
    ours = {"model": "degree 15, regularised"}
    assert (mean.sel(ours) - sd.sel(ours) <= mean.min("model")).all()
    assert (mean.sel(ours) < mean.sel(model="degree 15")).all()


def test_batched_study_has_shape_of_single_sizes():
    few = experiments.soft_against_hard(sizes=[12, 30], repetitions=4)
    alone = experiments.soft_against_hard(sizes=[30], repetitions=4)
    assert few.test_rmse.sel(n=30).shape == alone.test_rmse.sel(n=30).shape
    assert np.isfinite(few.test_rmse).all()

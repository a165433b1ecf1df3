"""Tests of `bayesgen.experiments.claims.forest`."""

import numpy as np
import pytest
import xarray as xr
from sklearn.tree import DecisionTreeRegressor

from bayesgen.experiments import random_forests
from bayesgen.experiments.claims import forest

SMALL = {"n": 150, "test": 300, "leaves": (5, 20, 150), "trees": (1, 20)}


@pytest.fixture(scope="module")
def result():
    return random_forests(seeds=2, **SMALL)


def test_error_rises_to_interpolation_and_falls_with_averaging_on_noise(result):
    noisy = result.sel(task=forest.TASKS[2]).mean("seed")
    assert float(noisy.train_error[2]) < 1e-9
    assert float(noisy.test_error[2]) > 1.1 * float(noisy.test_error[:2].min())
    assert float(noisy.test_error[-1]) < 0.7 * float(noisy.test_error[2])
    rise, fall = forest.peaks(result)[forest.TASKS[2]]
    assert rise > 1.1
    assert fall > 1.4


def test_forests_have_less_error_than_one_tree_on_digits(result):
    for task in forest.TASKS[:2]:
        error = result.test_error.sel(task=task).mean("seed").values
        assert error[-1] < 0.6 * error[2]


def test_errors_are_relative_to_the_variance_of_the_function():
    task = forest.TASKS[2]
    x, y, new, f = forest._data(task, 150, 300, 0)
    assert (x.shape, new.shape) == ((150, 10), (300, 10))
    found = forest.forest_curve(task, 150, 300, (2,), (1,), 0)
    best = DecisionTreeRegressor(max_leaf_nodes=2).fit(x, y)
    least = np.mean((best.predict(x) - y) ** 2) / f.var()
    assert least <= found["train"][0] <= y.var() / f.var()
    np.testing.assert_allclose(found["train"][1], 0, atol=1e-12)


def test_peaks_compare_the_largest_error_after_the_minimum():
    made = xr.Dataset(
        {"test_error": (("task", "seed", "step"), [[[9.0, 2.0, 3.0, 3.0, 1.5]]])},
        coords={"task": ["a"], "trees": ("step", [1, 1, 1, 1, 10])},
    )
    assert forest.peaks(made) == {"a": (1.5, 2.0)}


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    tiny = {"n": 30, "test": 20, "leaves": (2,), "trees": (1, 2)}
    random_forests(seeds=1, store=tmp_path, **tiny)
    assert len(list(tmp_path.glob("*.nc"))) == 3
    resumed = random_forests(seeds=2, store=tmp_path, **tiny)
    again = random_forests(seeds=2, **tiny)
    for name in again.data_vars:
        np.testing.assert_allclose(resumed[name], again[name])


def test_figure_draws(result):
    assert len(random_forests.plot(result).axes) == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"leaves": [1, 2]}, "leaves must be"),
        ({"trees": [5, 2]}, "trees must be increasing numbers"),
        ({"trees": [5, 10]}, "trees must start with 1"),
        ({"n": 1401}, "n must be at most 1400"),
        ({"seeds": 0}, "seeds must be"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        random_forests(**settings)

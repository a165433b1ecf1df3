"""Tests of `bayesgen.plots.corruption`."""

import math

import numpy as np
import pytest
import xarray as xr

from bayesgen import plots

LEVELS, N, C = [0.0, 0.5, 1.0], 50, 4


def variable(seed, *sizes):
    return np.random.default_rng(seed).uniform(0, 1, sizes)


@pytest.fixture
def one_model():
    names = [
        "log_marginal_likelihood", "fit", "complexity", "train_error", "test_error",
        "effective_dimension", "train_error_interpolating",
        "log_marginal_likelihood_interpolating",
    ]  # fmt: skip
    values = {name: (("level", "seed"), variable(i, 3, 2)) for i, name in enumerate(names)}
    attrs = {"n": N, "classes": C, "data": "digits", "kernel": "rbf", "targets": "one-hot"}
    return xr.Dataset(values, {"level": LEVELS, "seed": [0, 1]}, attrs)


def lines(axes):
    return {line.get_label(): line.get_ydata() for line in axes.lines}


def test_lines_of_one_model_are_means_over_seeds(one_model):
    evidence, parts, dimension, errors = plots.corruption(one_model).axes
    mean = one_model.mean("seed")
    shown = lines(evidence)["noise of maximum evidence"]
    np.testing.assert_allclose(shown, mean.log_marginal_likelihood / N)
    np.testing.assert_allclose(lines(parts)["fit"], mean.fit / N)
    np.testing.assert_allclose(lines(parts)["complexity (KL)"], mean.complexity / N)
    np.testing.assert_allclose(dimension.lines[0].get_ydata(), mean.effective_dimension / C)
    np.testing.assert_allclose(lines(errors)["test (clean labels)"], mean.test_error)
    assert list(lines(errors)["guessing"]) == [0.75, 0.75]


def test_diverging_parts_are_shown_on_a_log_scale(one_model):
    assert plots.corruption(one_model).axes[1].get_yscale() == "linear"
    huge = one_model.assign(fit=one_model.fit * 1e6)
    assert plots.corruption(huge).axes[1].get_yscale() == "symlog"


def test_interpolating_twin_is_optional_and_other_results_raise(one_model):
    names = [name for name in one_model.data_vars if "interpolating" in name]
    assert len(lines(plots.corruption(one_model.drop_vars(names)).axes[0])) == 1
    with pytest.raises(ValueError, match="without fit"):
        plots.corruption(one_model.drop_vars("fit"))
    with pytest.raises(ValueError, match=r"dims \(level, seed\)"):
        plots.corruption(one_model.isel(seed=0))


@pytest.mark.parametrize(("kinds", "panels"), [(["labels", "density"], 4), (["labels"] * 2, 3)])
def test_each_kind_of_evidence_has_a_panel(kinds, panels):
    names = ["log_marginal_likelihood", "train_error", "test_error"]
    values = {n: (("model", "level", "seed"), variable(i, 2, 3, 1)) for i, n in enumerate(names)}
    values |= {"kind": ("model", kinds), "excludes": ("model", ["", "features"])}
    coords = {"model": ["gp", "dkl"], "level": LEVELS, "seed": [0]}
    result = xr.Dataset(values, coords, {"n": N, "classes": C, "data": "digits"})
    axes = plots.corruption_models(result).axes
    assert len(axes) == panels
    assert lines(axes[0])["guessing"][0] == pytest.approx(-math.log(C))
    last = axes[panels - 3]
    want = result.log_marginal_likelihood.sel(model="dkl").mean("seed") / N
    np.testing.assert_allclose(lines(last)["dkl (features unpaid)"], want)

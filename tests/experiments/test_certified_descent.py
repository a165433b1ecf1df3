"""Tests of `bayesgen.experiments.certified_descent` and `bayesgen.plots.certified_descent`."""

import math

import numpy as np
import pytest
import torch
import xarray as xr

from bayesgen import experiments, pacbayes
from bayesgen.experiments.certified_descent import _claim, around
from bayesgen.experiments.complexity_measures import DEVIATIONS, MeasureSettings
from bayesgen.experiments.compressed_sizes import CodeGrid
from bayesgen.experiments.width_families import train_all
from bayesgen.experiments.widths import points, tasks_of
from bayesgen.pacbayes.inverse_kl import monte_carlo

CODES = CodeGrid(dimensions=(20,), epochs=2, quantised_epochs=1)
FEW = {"train": 60, "test": 50, "epochs": 10, "codes": CODES, "draws": 4}


def test_trained_and_compressed_networks_share_a_dataset(tmp_path):
    run = {"levels": [0.0, 0.5], "seeds": {"mlp": 2, "convnet": 1}, **FEW}
    widths = {"mlp": (2, 4, 8), "convnet": (1, 2)}
    result = experiments.certified_descent("digits", widths=widths, store=tmp_path, **run)
    assert dict(result.sizes) == {"network": 2, "level": 2, "width": 4, "seed": 2}
    one = result.sel(network="mlp", width=[2, 4, 8])
    assert all(np.isfinite(one[name]).all() for name in one.data_vars)
    assert np.isnan(result.bound.sel(network="convnet", seed=1)).all()
    assert (one.bound >= one.risk).all()
    noisy = 0.5 * one.test_error.sel(level=0.5) + 0.5 * 0.9
    xr.testing.assert_allclose(
        one.noisy_test_error.sel(level=0.5), noisy.rename("noisy_test_error")
    )
    xr.testing.assert_allclose(one.noisy_test_error.sel(level=0.0), one.test_error.sel(level=0.0))
    assert result.attrs["candidates"] == 5
    assert "fewer than three widths" in result.attrs["found"]
    figure = experiments.certified_descent.plot(result)
    assert len(figure.axes) == 6
    figure.draw_without_rendering()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = experiments.certified_descent("digits", widths=widths, store=tmp_path, **run)
    assert all(path.stat().st_mtime_ns == made for path, made in before.items())
    xr.testing.assert_equal(again, result)


def test_bound_of_standardised_images_pays_for_the_statistics():
    data = points("digits", "convnet", 60, 50, None, "cpu")
    (task,) = tasks_of("convnet", data, [1], 0.2, 1, 2)
    state = torch.as_tensor(train_all([task])[0]["state"])[0]
    found = around(task, state, 0, MeasureSettings(draws=4))
    kl = found["kl"] + math.log(len(DEVIATIONS)) + 64 * math.log(2)
    gibbs = monte_carlo(found["gibbs_risk"], 4, 0.025 / len(DEVIATIONS))
    assert found["bound"] == float(pacbayes.maurer(gibbs, kl, 60, 0.025))


def _curves(error, bound):
    dims, coords = ("network", "level", "width", "seed"), {
        "network": ["mlp"], "level": [0.2], "width": [1, 2, 4], "seed": [0],
    }  # fmt: skip
    values = {"test_error": error, "bound": bound, "gibbs_bound": [1.0] * 3, "kl": [9.0] * 3}
    return xr.Dataset(
        {k: (dims, np.reshape(v, (1, 1, 3, 1))) for k, v in values.items()}, coords=coords
    )


@pytest.mark.parametrize(
    ("error", "bound", "holds", "words"),
    [
        ([0.2, 0.3, 0.1], [0.7, 0.8, 0.6], "yes", "follows 1 of 1 peaks"),
        ([0.2, 0.3, 0.1], [0.8, 0.7, 0.6], "no", "follows 0 of 1 peaks"),
        ([0.3, 0.2, 0.1], [0.7, 0.8, 0.6], "no", "follows 0 of 0 peaks"),
    ],
)
def test_claim_holds_where_the_bound_peaks_with_the_test_error(error, bound, holds, words):
    made = _claim(_curves(error, bound))
    assert made["holds"] == holds
    assert words in made["found"]


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ({"networks": ["resnet18"]}, "networks must be one of"),
        ({"widths": {"mlp": (2,)}}, "widths must have a value for 'convnet'"),
        ({"seeds": {"mlp": 1}}, "seeds must have a value for 'convnet'"),
        ({"levels": [0.2, 0.1]}, "levels must be one or more increasing"),
        ({"draws": 0}, "draws must be"),
        ({"epochs": 0}, "epochs must be"),
    ],
)
def test_bad_input_is_named(bad, match):
    with pytest.raises(ValueError, match=match):
        experiments.certified_descent("digits", **{**FEW, **bad})
    with pytest.raises(TypeError, match="codes must be CodeGrid"):
        experiments.certified_descent("digits", codes=3)

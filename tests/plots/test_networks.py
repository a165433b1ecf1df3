"""Tests of `bayesgen.plots.networks`."""

import math

import numpy as np
import pytest
import xarray as xr

from bayesgen import plots


def test_rotation_shows_angles_and_correlations():
    rng = np.random.default_rng(0)
    values = {
        "angle": ("image", [-40.0, 0.0, 40.0]),
        "predicted": (("model", "image"), rng.uniform(-40, 40, (2, 3))),
        "sd": (("model", "image"), np.ones((2, 3))),
        "test_rmse": ("model", [12.34, 5.0]),
        "correlation": (("model", "shown", "other"), rng.uniform(0, 1, (2, 4, 4))),
    }
    result = xr.Dataset(values, {"model": ["fixed", "deep"]}, {"widest": 45.0, "n": 3})
    figure = plots.rotation(result)
    first, second, third, *_ = figure.axes
    assert first.get_title() == "fixed: test RMSE 12.3°"
    shown = [float(y) for y in second.lines[1].get_ydata()]
    np.testing.assert_allclose(shown, result.predicted.sel(model="deep"))
    np.testing.assert_allclose(third.images[0].get_array(), result.correlation.sel(model="fixed"))


def test_laplace_shows_evidence_and_scores_of_every_curvature():
    names = ["log_marginal_likelihood", "fit", "complexity", "evidence_error", "test_nll",
             "test_ece"]  # fmt: skip
    rng = np.random.default_rng(0)
    values = {name: ("curvature", rng.uniform(0.1, 1, 2)) for name in names}
    values |= {"excludes": ("curvature", ["", "features"])}
    values |= {"mode_test_nll": 0.4, "mode_test_ece": 0.05}
    attrs = {"n": 20, "classes": 3, "network": "mlp", "data": "digits", "level": 0.2}
    result = xr.Dataset(values, {"curvature": ["ggn", "last_layer"]}, attrs)
    evidence, score = plots.laplace(result).axes
    bars = {bars.get_label(): [b.get_width() for b in bars] for bars in evidence.containers[:2]}
    np.testing.assert_allclose(bars["fit"], result.fit / 20)
    np.testing.assert_allclose(bars["−complexity"], -result.complexity / 20)
    guessing = next(line for line in evidence.lines if line.get_label() == "guessing")
    assert guessing.get_xdata()[0] == pytest.approx(-math.log(3))
    assert [t.get_text() for t in score.get_yticklabels()] == [
        "ggn", "last_layer\n(features unpaid)", "the mode",
    ]  # fmt: skip
    np.testing.assert_allclose([b.get_width() for b in score.containers[0]][-1], 0.4)

"""Tests of `bayesgen.experiments.model_size` and `bayesgen.plots.model_size`."""

import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, strategies as st
from matplotlib.figure import Figure

from bayesgen import experiments, pacbayes
from bayesgen.experiments.compressed_sizes import CodeGrid
from bayesgen.experiments.model_size import trend
from bayesgen.plots.model_size import size_panel

FEW = CodeGrid(dimensions=(20, 40), epochs=2, quantised_epochs=1, batch=64)


@pytest.fixture(scope="module")
def result():
    return experiments.model_size(
        "digits",
        widths={"mlp": (2, 8), "convnet": (1, 2, 3)},
        codes=FEW,
        train=200,
        test=100,
        delta=0.2,
    )


def test_bounds_pay_for_every_choice(result):
    assert result.attrs["candidates"] == 2 * 5
    paid = result.payment.values[np.isfinite(result.payment.values)]
    np.testing.assert_allclose(paid, math.log(10))
    one = result.sel(network="mlp", width=8)
    prior = pacbayes.bounds.solomonoff(float(one.bits)) - math.log(10)
    assert float(one.bound) == float(pacbayes.occam(float(one.risk), prior, 200, 0.2))


def test_the_least_bound_of_the_settings_is_reported(result):
    least = result.tried_bound.min("setting")
    xr.testing.assert_allclose(least, result.bound)
    one = result.sel(network="convnet", width=2)
    place = int(one.tried_bound.values.argmin())
    assert int(result.k[place]) == int(one.dimension)
    assert float(one.tried_test_error[place]) == float(one.test_error)


def test_families_have_their_own_widths(result):
    assert dict(result.sizes) == {"network": 2, "width": 4, "setting": 2}
    assert np.isnan(result.bound.sel(network="mlp", width=[1, 3])).all()
    assert np.isfinite(result.bound.sel(network="mlp", width=[2, 8])).all()
    assert result.attrs["found"].endswith("nats for all choices.")
    assert result.attrs["holds"] in ("yes", "partly", "no")


def test_the_figure_stacks_risk_and_compressibility(result):
    figure = experiments.model_size.plot(result)
    assert len(figure.axes) == 2
    figure.draw_without_rendering()
    axes = Figure().subplots()
    one = result.sel(network="mlp").dropna("width", how="all", subset=["bound"])
    size_panel(axes, one)
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert words == ["empirical risk", "compressibility", "bound", "least bound", "test error"]
    bound = next(line for line in axes.lines if line.get_label() == "bound")
    np.testing.assert_array_equal(bound.get_ydata(), one.bound)


def test_a_panel_needs_only_bound_risk_and_parameters():
    values = {"bound": [3.0, 2.0], "risk": [1.0, 0.5], "parameters": [10.0, 100.0]}
    one = xr.Dataset({k: ("width", v) for k, v in values.items()}, coords={"width": [1, 2]})
    axes = Figure().subplots()
    size_panel(axes, one)
    assert axes.get_ylim()[1] > 3
    assert not axes.texts


@pytest.mark.parametrize(
    ("bounds", "word"),
    [
        ([0.5], "flat"),
        ([0.5, 0.505, 0.5], "flat"),
        ([0.8, 0.6, 0.605, 0.5], "falling"),
        ([0.5, 0.6, 0.7], "rising"),
        ([0.621, 0.571, 0.560, 0.565, 0.575, 0.622, 0.634], "U-shaped"),
        ([0.5, 0.7, 0.45], "irregular"),
    ],
)
def test_course_of_bounds_has_a_word(bounds, word):
    assert trend(bounds) == word


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.0, 0.2))
def test_reversed_bounds_rise_where_bounds_fall(bounds, margin):
    word = trend(bounds, margin)
    if word in ("falling", "rising"):
        assert (bounds[-1] < bounds[0]) == (word == "falling")
    if word == "flat":
        assert trend(bounds[::-1], margin) == "flat"


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ({"networks": ["resnet18"]}, "networks must be one of"),
        ({"widths": {"mlp": (2,)}}, "widths must have those of each"),
        ({"widths": (4, 2)}, "widths must be increasing"),
        ({"data": "mnist"}, "data must be one of"),
        ({"delta": 1.0}, r"delta must lie in \(0, 1\)"),
        ({"codes": CodeGrid(dimensions=(10**6,))}, "dimensions must have a value"),
    ],
)
def test_bad_input_is_named(bad, match):
    with pytest.raises(ValueError, match=match):
        experiments.model_size(**{"data": "digits", "codes": FEW, "train": 50, **bad})
    with pytest.raises(TypeError, match="codes must be CodeGrid"):
        experiments.model_size("digits", codes={"dimensions": (20,)})

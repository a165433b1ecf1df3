"""Tests of `bayesgen.plots.style`."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from bayesgen.plots.style import COLOURS, curve, tidy


def test_curve_draws_mean_and_range_over_seeds():
    values = xr.DataArray(
        [[1.0, 3.0], [2.0, 6.0]], dims=("level", "seed"), coords={"level": [0.0, 0.5]}
    )
    axes = Figure().subplots()
    curve(axes, values, COLOURS[0], "a curve", style="--")
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xdata(), [0.0, 0.5])
    np.testing.assert_array_equal(line.get_ydata(), [2.0, 4.0])
    assert line.get_label() == "a curve"
    (band,) = axes.collections
    corners = {tuple(v) for v in band.get_paths()[0].vertices}
    assert {(0.0, 1.0), (0.0, 3.0), (0.5, 2.0), (0.5, 6.0)} <= corners


def test_tidy_hides_the_box():
    axes = Figure().subplots()
    tidy(axes)
    assert not axes.spines["top"].get_visible()
    assert not axes.spines["right"].get_visible()
    assert axes.spines["left"].get_visible()


def test_colours_differ():
    assert len(set(COLOURS)) == len(COLOURS)

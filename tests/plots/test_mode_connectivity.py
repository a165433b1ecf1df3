"""Tests of `bayesgen.plots.mode_connectivity`."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from bayesgen.plots.mode_connectivity import along_paths


def test_paths_are_drawn_where_they_have_values():
    rng = np.random.default_rng(0)
    values = rng.uniform(0.1, 1, (4, 5))
    values[1] = np.nan
    values[2, 1:4] = np.nan
    paths = ["line", "line to matched units", "Bézier curve", "polygonal chain"]
    loss = xr.DataArray(
        values, dims=("path", "point"), coords={"path": paths, "point": np.linspace(0, 1, 5)},
        name="train_loss",
    )  # fmt: skip
    axes = Figure().subplots()
    along_paths(axes, loss)
    assert [line.get_label() for line in axes.lines] == [paths[0], *paths[2:]]
    assert [len(line.get_xdata()) for line in axes.lines] == [5, 2, 5]
    assert axes.get_yscale() == "log"

"""Tests of `bayesgen.plots.figure_two`."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from bayesgen import plots


def classifiers():
    dims = ("network", "width")
    values = {"bound": [[0.6, 0.5, 0.4]], "risk": [[0.4, 0.3, 0.2]]}
    values |= {"parameters": [[1e2, 1e3, 1e4]], "test_error": [[0.5, 0.4, 0.3]]}
    coords = {"network": ["mlp"], "width": [4, 16, 64]}
    made = {name: (dims, np.array(value)) for name, value in values.items()}
    return xr.Dataset(made, coords, {"data": "digits"})


def text():
    columns = {"parameters": [1e5, 1e6, 1e7], "bits": [1e5, 5e4, 6e4], "risk": [2.2, 2.4, 2.6]}
    columns |= {"freedman": [2.6, 2.7, 2.9], "hoeffding": [3.5, 3.4, 3.6], "payments": [3.6] * 3}
    made = {name: ("model", value) for name, value in columns.items()}
    made["table_freedman"] = ("table", [4.6, 3.7])
    coords = {"model": ["a", "b", "c"], "architecture": ("model", ["a", "b", "c"])}
    coords["table"] = ["characters", "pairs"]
    return xr.Dataset(made, coords, {"data": "a text", "guessing": 7.0, "n": 10, "delta": 0.05})


def test_the_page_has_a_panel_for_each_family_and_one_for_the_text():
    figure = plots.figure_two({"fig2a": classifiers(), "fig2b": text()})
    assert isinstance(figure, Figure)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["mlp, digits", "transformers, a text"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["0–1 risk", "bits per character"]
    bounds = [line for line in figure.axes[1].lines if line.get_label() == "bound"]
    np.testing.assert_allclose(bounds[0].get_ydata(), [2.6, 2.7, 2.9])

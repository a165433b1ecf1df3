"""The page with all panels of figure 1 of Wilson (2025)."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from bayesgen.plots.double_descent import linear_double_descent
from bayesgen.plots.label_noise import label_noise_panel
from bayesgen.plots.legends import finish
from bayesgen.plots.regression import flexible_fit
from bayesgen.plots.widths import descent

_FUNCTIONS = ("(a) structure", "(b) structure", "(c) pure noise")


def figure_one(parts: dict[str, xr.Dataset]) -> Figure:
    """Draw panels (a)–(g): benign overfitting above, double descent below.

    Args:
        parts: results of the reproductions fig1abc, fig1d, fig1e, fig1f and fig1g.
    """
    figure = Figure(figsize=(15.0, 7.6), layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=[1.0, 1.15])
    upper, lower = (figure.add_subfigure(cell) for cell in (grid[0], grid[1]))
    polynomial = parts["fig1abc"]
    for axes, name, title in zip(
        upper.subplots(1, 3), polynomial.function, _FUNCTIONS, strict=True
    ):
        flexible_fit(axes, polynomial.sel(function=name))
        axes.set_title(f"{title}: {name.item()}", fontsize=11)
    upper.axes[0].set_ylabel("y")
    upper.axes[0].legend(frameon=False, fontsize=8)
    panels = lower.subplots(1, 4)
    titles = ("(d) Gaussian process", "(e) ResNet", "(f) networks", "(g) linear model")
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, fontsize=11)
    label_noise_panel(panels[0], parts["fig1d"])
    label_noise_panel(panels[1], parts["fig1e"])
    networks = parts["fig1f"]
    name = networks.network.values[0]
    one = networks.sel(network=name).dropna("width", how="all", subset=["test_loss"])
    descent(panels[2], one)
    linear_double_descent(panels[3], parts["fig1g"])
    return finish(figure)

"""The page with both parts of figure 2 of Wilson (2025)."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from bayesgen.plots.language_models import language_panel
from bayesgen.plots.legends import finish
from bayesgen.plots.model_size import size_panel


def figure_two(parts: dict[str, xr.Dataset]) -> Figure:
    """Draw empirical risk and compressibility against model size, for classifiers and for text.

    Args:
        parts: results of the reproductions fig2a and fig2b.
    """
    classifiers, text = parts["fig2a"], parts["fig2b"]
    nets = classifiers.network.values
    figure = Figure(figsize=(1.0 + 4.2 * (len(nets) + 1), 4.3), layout="constrained")
    panels = figure.subplots(1, len(nets) + 1)
    for axes, name in zip(panels, nets, strict=False):
        one = classifiers.sel(network=name).dropna("width", how="all", subset=["bound"])
        size_panel(axes, one, legend=axes is panels[0], numbers=False)
        axes.set_title(f"{name}, {classifiers.attrs['data']}", fontsize=10)
    panels[0].set_ylabel("0–1 risk")
    language_panel(panels[-1], text)
    panels[-1].set_ylabel("bits per character")
    panels[-1].set_title(f"transformers, {text.attrs['data']}", fontsize=10)
    return finish(figure)

"""What networks learn."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from bayesgen.plots.look import BLUE, ORANGE, tidy


def rotation(result: xr.Dataset) -> Figure:
    """Predicted against true angle, and which images each prior takes for similar.

    Args:
        result: what `bayesgen.experiments.rotation` returned.
    """
    figure = Figure(figsize=(8.6, 7.2), layout="constrained")
    widest = result.attrs["widest"]
    above, below = figure.subplots(2, 2)
    colours = (ORANGE, BLUE)
    for axes, name, colour in zip(above, result.model.values, colours, strict=True):
        one = result.sel(model=name)
        axes.plot([-widest, widest], [-widest, widest], color="black", lw=0.8, ls=":")
        axes.errorbar(
            one.angle, one.predicted, one.sd, fmt="o", ms=3, color=colour, alpha=0.4, elinewidth=0.5
        )
        axes.set_title(f"{name}: test RMSE {float(one.test_rmse):.1f}°", fontsize=10)
        axes.set_xlabel("true angle, degrees")
        axes.set_ylim(-1.6 * widest, 1.6 * widest)
        tidy(axes)
    above[0].set_ylabel("predicted, ± 1 sd, degrees")
    for axes, name in zip(below, result.model.values, strict=True):
        one = result.correlation.sel(model=name)
        image = axes.imshow(
            one, vmin=0, vmax=1, cmap="cividis", extent=(-widest, widest, widest, -widest)
        )
        axes.set_title(f"{name}: prior correlation of test images", fontsize=10)
        axes.set_xlabel("angle, degrees")
    below[0].set_ylabel("angle, degrees")
    figure.colorbar(image, ax=list(below), shrink=0.8)
    figure.suptitle(f"Rotated digits, n = {result.attrs['n']:,}", fontsize=10)
    return figure

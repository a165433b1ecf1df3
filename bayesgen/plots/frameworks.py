"""Figure of five generalisation bounds on real and random labels."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesgen._internal.words import plural
from bayesgen.plots.legends import finish
from bayesgen.plots.style import BLUE, GREEN, ORANGE, TEST, VERMILION, canvas, tidy

# Height at which bars are cut; the number is written above.
_TOP = 1.15


def frameworks(result: xr.Dataset, ax: Axes | None = None) -> Figure:
    """Plot empirical risk and complexity of each framework, for real and random labels.

    Bars are means over seeds, cut at 1.15 with the bound written above; points are test errors.

    Args:
        result: result of `bayesgen.experiments.frameworks`.
        ax: axes to draw on; None makes a figure.
    """
    figure, axes = canvas(ax, (10.0, 4.6))
    mean = result.drop_vars("passes").mean("seed")
    names, width = result.framework.values, 0.36
    place = np.arange(len(names))
    for side, (labels, colour) in enumerate((("real", BLUE), ("random", ORANGE))):
        one = mean.sel(labels=labels)
        at = place + (side - 0.5) * (width + 0.04)
        risk = np.minimum(one.risk.values, _TOP)
        rest = np.minimum(one.bound.values, _TOP) - risk
        axes.bar(at, risk, width, color=colour, label=f"{labels} labels: empirical risk")
        axes.bar(
            at, rest, width, bottom=risk, color=colour, alpha=0.35, label=f"{labels}: complexity"
        )
        axes.plot(
            at, one.test_error, "o", color=TEST, mec="white", ms=6,
            label="test error" if side else None,
        )  # fmt: skip
        for x, bound in zip(at, one.bound.values, strict=True):
            number = f"{bound:.2f}" if bound < 10 else f"{bound:,.0f}"
            axes.text(x, min(bound, _TOP) + 0.01, number, ha="center", va="bottom", fontsize=8)
    axes.axhline(0.5, color="black", lw=0.9, ls=":", label="guessing")
    for x, passed in zip(place, result.passes.values, strict=True):
        word, colour = ("passes", GREEN) if passed else ("does not pass", VERMILION)
        axes.text(float(x), _TOP + 0.11, word, ha="center", color=colour, fontsize=9, weight="bold")
    axes.set_xticks(place, names)
    axes.set_ylim(0, _TOP + 0.2)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0])
    axes.set_xlabel("framework")
    axes.set_ylabel("bound of the 0–1 risk")
    tidy(axes)
    axes.grid(visible=False, axis="x")
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    n, d, seeds = result.attrs["n"], result.attrs["d"], result.sizes["seed"]
    axes.set_title(
        f"{result.attrs['data']}, n = {n:,}, d = {d:,} random features, {plural(seeds, 'seed')}, "
        f"δ = {result.attrs['delta']:g}: Zhang's test",
        fontsize=10,
    )
    return finish(figure, [axes])

"""Figure of soft inductive biases whose strength the evidence chooses."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesgen.plots.legends import finish
from bayesgen.plots.style import BLUE, COLOURS, GREEN, GREY, ORANGE, VERMILION, tidy

_BIASES = {"hard": VERMILION, "soft": BLUE, "free": ORANGE}
_NETWORKS = {"ConvNet": VERMILION, "residual pathway": BLUE, "MLP": ORANGE}


def soft_bias(result: xr.Dataset) -> Figure:
    """Plot, above, the strength of each bias that the evidence chose, and below, the test errors.

    Args:
        result: result of `bayesgen.experiments.soft_bias`.
    """
    figure = Figure(figsize=(13.0, 6.4), layout="constrained")
    above, below = figure.subplots(2, 4)
    learnt_ratio(above[0], result.linear_ratio)
    above[0].set_title("Quadratic regression", fontsize=10)
    evidence_of_ratio(above[1], result)
    above[1].set_title("Dense layer tied like a convolution", fontsize=10)
    dense_share(above[2], result)
    above[2].set_title("Convolution and dense map", fontsize=10)
    learnt_range(above[3], result)
    above[3].set_title("Average over rotations", fontsize=10)
    regression_error(below[0], result.linear_rmse)
    regression_error(below[1], result.tied_rmse)
    pathway_error(below[2], result)
    evidence_of_range(below[3], result)
    return finish(figure)


def learnt_ratio(axes: Axes, ratio: xr.DataArray) -> None:
    """Plot the ratio of prior variances, on a log axis, against the asymmetry of the data."""
    x, mean = _places(ratio.asymmetry.values), np.exp(np.log(ratio.values).mean(0))
    low, high = (ratio.quantile(q, "repetition") for q in (0.1, 0.9))
    axes.fill_between(x, low, high, color=BLUE, alpha=0.2, lw=0, label="80 % of repetitions")
    axes.plot(x, mean, "o-", color=BLUE, ms=4, label="geometric mean")
    axes.set_yscale("log")
    axes.set_xticks(x, [f"{a:g}" for a in ratio.asymmetry.values])
    axes.set_xlabel("asymmetry of the data")
    axes.set_ylabel("learnt variance ratio free : symmetric")
    _finish(axes)


def evidence_of_ratio(axes: Axes, result: xr.Dataset) -> None:
    """Plot the evidence against the tie strength for every deviation from a convolution."""
    mean = result.tied_evidence.mean("repetition")
    for deviation, colour in zip(result.deviation.values, COLOURS, strict=False):
        curve = mean.sel(deviation=deviation)
        gap = curve - float(curve.max())
        best = int(curve.values.argmax())
        label = f"deviation {deviation:g}"
        axes.plot(result.ratio, gap, color=colour, label=label)
        axes.plot(result.ratio[best], gap[best], "o", color=colour, ms=5)
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=10)
    lowest = float((mean - mean.max("ratio")).min())
    axes.set_ylim(20 * min(lowest, -10.0), 5)  # room for the legend
    axes.set_xlabel("variance ratio r: free : tied")
    axes.set_ylabel("log p(D) − its maximum, nats")
    _finish(axes)
    axes.legend(frameon=False, fontsize=8, loc="lower left")


def dense_share(axes: Axes, result: xr.Dataset) -> None:
    """Plot the share of the dense map in the prior variance against the share of moved pixels."""
    x = range(result.sizes["shuffled"])
    axes.bar(x, result.dense_share.mean("seed"), 0.5, color=BLUE)
    for row in result.dense_share.values:
        axes.plot(x, row, "o", color="black", ms=3)
    axes.set_xticks(x, [f"{share:.0%}" for share in result.shuffled.values])
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("pixels shuffled (dots: seeds)")
    axes.set_ylabel("learnt share of the dense map")
    tidy(axes)


def learnt_range(axes: Axes, result: xr.Dataset) -> None:
    """Plot the range of rotations of maximum evidence against the rotation of the digits."""
    span, rotation = result.kernel_range.mean("seed"), result.rotation
    axes.plot(rotation[:-1], span[:-1], "o-", color=BLUE, ms=4, label="kernel, label: digit")
    axes.plot(rotation[-1:], span[-1:], "D", color=VERMILION, ms=6, label="kernel, label: sense")
    chosen = result.network_range.values
    ends = [float(rotation[0]), float(rotation[-2])]
    axes.plot(ends, chosen[:2], "s--", color=GREEN, ms=5, label="network, label: digit")
    axes.plot(rotation[-1:], chosen[2:], "s", color=ORANGE, ms=4, label="network, label: sense")
    axes.set_xlabel("rotation present, ± degrees")
    axes.set_ylabel("range found, ± degrees")
    axes.set_ylim(-8, 190)
    _finish(axes)


def regression_error(axes: Axes, rmse: xr.DataArray) -> None:
    """Plot mean test errors of hard, soft and free models against the deviation of the data."""
    (name,) = set(map(str, rmse.dims)) - {"repetition", "bias"}
    x = _places(rmse[name].values)
    for bias, colour in _BIASES.items():
        axes.plot(x, rmse.sel(bias=bias).mean("repetition"), "o-", color=colour, ms=4, label=bias)
    axes.set_xticks(x, [f"{value:g}" for value in rmse[name].values])
    axes.set_yscale("log")
    axes.set_xlabel("asymmetry of the data" if name == "asymmetry" else "deviation of the data")
    axes.set_ylabel("test RMSE, sd of f")
    _finish(axes)


def pathway_error(axes: Axes, result: xr.Dataset) -> None:
    """Plot mean test errors of a ConvNet, a residual pathway and an MLP as bars."""
    x = np.arange(result.sizes["shuffled"])
    for shift, (network, colour) in enumerate(_NETWORKS.items()):
        error = result.pathway_error.sel(network=network).mean("seed")
        axes.bar(x + 0.27 * (shift - 1), error, 0.25, color=colour, label=network)
    axes.set_xticks(x, [f"{share:.0%}" for share in result.shuffled.values])
    axes.set_xlabel("pixels shuffled")
    axes.set_ylabel("test error")
    _finish(axes)


def evidence_of_range(axes: Axes, result: xr.Dataset) -> None:
    """Plot the evidence of averaged networks against their range, relative to its maximum."""
    names = ("upright digits", "digits at any angle", "sense of rotation")
    mean = result.network_evidence.mean("seed")
    for curve, name, colour in zip(mean, names, (GREEN, BLUE, ORANGE), strict=True):
        gap = curve - float(curve.max())
        axes.plot(result.range, gap, "s-", color=colour, ms=4, label=name)
    axes.axhline(0, color=GREY, lw=0.6, ls=":")
    axes.set_xlabel("range of the network, ± degrees")
    axes.set_ylabel("log p(D) − its maximum, nats")
    _finish(axes)


def _places(values: np.ndarray) -> np.ndarray:
    """Evenly spaced places, since the values are far from even."""
    return np.arange(len(values))


def _finish(axes: Axes) -> None:
    axes.legend(frameon=False, fontsize=8)
    tidy(axes)

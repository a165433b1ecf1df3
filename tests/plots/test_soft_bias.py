"""Tests of `bayesgen.plots.soft_bias`."""

import numpy as np
import xarray as xr

from bayesgen import plots


def study():
    rng = np.random.default_rng(0)
    dims = {
        "linear_ratio": ("repetition", "asymmetry"),
        "linear_rmse": ("repetition", "asymmetry", "bias"),
        "tied_rmse": ("repetition", "deviation", "bias"),
        "tied_evidence": ("repetition", "deviation", "ratio"),
        "dense_share": ("seed", "shuffled"),
        "pathway_error": ("seed", "shuffled", "network"),
        "kernel_range": ("seed", "task"),
        "network_evidence": ("seed", "network_task", "range"),
        "network_range": ("network_task",),
    }
    coords = {
        "repetition": [0, 1],
        "asymmetry": [0.0, 0.1, 0.5],
        "deviation": [0.0, 0.1],
        "bias": ["hard", "soft", "free"],
        "ratio": [0.01, 1.0, 100.0],
        "seed": [0],
        "shuffled": [0.0, 1.0],
        "network": ["ConvNet", "residual pathway", "MLP"],
        "task": ["0", "180", "orientation"],
        "rotation": ("task", [0.0, 180.0, 90.0]),
        "network_task": ["0", "180", "orientation"],
        "range": [0.0, 90.0, 180.0],
    }
    empty = xr.Dataset(coords=coords)
    return empty.assign(
        {
            name: (axes, rng.uniform(0.1, 1, [empty.sizes[axis] for axis in axes]))
            for name, axes in dims.items()
        }
    )


def test_panels_show_the_values_of_the_result():
    result = study()
    figure = plots.soft_bias(result)
    assert len(figure.axes) == 8
    ratio, tied, share, span, error, *_ = figure.axes
    want = np.sqrt(result.linear_ratio[0] * result.linear_ratio[1])
    np.testing.assert_allclose(ratio.lines[0].get_ydata(), want)
    curve = result.tied_evidence[:, 0].mean("repetition")
    np.testing.assert_allclose(tied.lines[0].get_ydata(), curve - curve.max("ratio"))
    heights = [bar.get_height() for bar in share.patches]
    np.testing.assert_allclose(heights, result.dense_share[0])
    np.testing.assert_allclose(span.lines[0].get_ydata(), result.kernel_range[0, :-1])
    np.testing.assert_allclose(
        error.lines[1].get_ydata(), result.linear_rmse[..., 1].mean("repetition")
    )

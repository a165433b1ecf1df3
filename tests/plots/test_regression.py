"""Tests of `bayesgen.plots.regression`."""

import numpy as np
import xarray as xr

from bayesgen import plots


def test_order_selection_marks_the_best_order():
    rng = np.random.default_rng(0)
    coords = {"basis": ["fourier", "legendre"], "prior": ["isotropic", "order-dependent"],
              "order": np.arange(9)}  # fmt: skip
    values = rng.uniform(-50, -10, (2, 2, 9))
    result = xr.Dataset(
        {"log_marginal_likelihood": (("basis", "prior", "order"), values)}, coords, {"n": 50}
    )
    for axes, of_basis in zip(plots.order_selection(result).axes, values, strict=True):
        for k in range(2):
            line, dot = axes.lines[2 * k : 2 * k + 2]
            np.testing.assert_allclose(line.get_ydata(), of_basis[k])
            assert float(dot.get_xdata()[0]) == of_basis[k].argmax()


def test_flexible_polynomial_shows_truth_fit_and_data():
    rng = np.random.default_rng(0)
    values = {
        "truth": (("function", "point"), rng.normal(size=(2, 30))),
        "fitted": (("function", "point"), rng.normal(size=(2, 30))),
        "y": (("function", "row"), rng.normal(size=(2, 6))),
        "train_rmse": ("function", [0.1, 1e-5]),
    }
    coords = {"function": ["sine", "noise"], "point": np.linspace(0, 1, 30), "row": np.arange(6.0)}
    result = xr.Dataset(values, coords, {"degree": 150})
    panels = plots.flexible_polynomial(result).axes
    assert [axes.get_title() for axes in panels] == [
        "sine: training RMSE 0.1", "noise: training RMSE 1e-05",
    ]  # fmt: skip
    for i, axes in enumerate(panels):
        truth, fit, data = axes.lines
        np.testing.assert_allclose(truth.get_ydata(), result.truth[i])
        np.testing.assert_allclose(fit.get_ydata(), result.fitted[i])
        np.testing.assert_allclose(data.get_ydata(), result.y[i])


def test_soft_against_hard_shows_medians_relative_to_the_best_and_themselves():
    rng = np.random.default_rng(0)
    coords = {"model": list("abcde"), "target": ["a", "b", "c"], "n": [10, 40]}
    values = rng.uniform(0.1, 1, (5, 3, 2, 5))
    result = xr.Dataset({"test_rmse": (("model", "target", "n", "repetition"), values)}, coords)
    panels = plots.soft_against_hard(result).axes
    assert len(panels) == 6
    medians = np.median(values, -1)
    for t in range(3):
        relative, absolute = panels[t], panels[3 + t]
        assert absolute.get_yscale() == "log"
        for m in range(5):
            line = relative.lines[m].get_ydata()
            np.testing.assert_allclose(line, medians[m, t] / medians[:, t].min(0))
            np.testing.assert_allclose(absolute.lines[m].get_ydata(), medians[m, t])
        for band in absolute.collections:  # A log axis cannot show what is not positive.
            assert (band.get_paths()[0].vertices[:, 1] > 0).all()

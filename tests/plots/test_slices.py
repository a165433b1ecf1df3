"""Tests of `bayesgen.plots.slices`: predictions of one posterior along one input."""

import numpy as np
from matplotlib.figure import Figure

from bayesgen.plots.slices import Slice, probability_slice, regression_slice

GRID = np.linspace(0, 1, 5)
NONE = np.zeros(0)


def part(mean, *, lower=None, upper=None, ticks=(), held=""):
    return Slice(GRID[: len(mean)], "age", held, mean, lower, upper, np.zeros((2, len(mean))),
                 np.array([0.5]), np.array([1.0]), ticks)  # fmt: skip


def test_mean_band_draws_and_observations_are_drawn():
    axes = Figure().subplots()
    found = regression_slice(axes, part(GRID, lower=GRID - 1, upper=GRID + 1), 0.9, "price")
    assert found is axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("age", "price")
    labels = axes.get_legend_handles_labels()[1]
    assert labels == [
        "mean", "90 % interval of observations", "observations", "draws of the function"
    ]  # fmt: skip
    assert len(axes.lines) == 4


def test_texts_are_points_with_their_names():
    axes = Figure().subplots()
    three = GRID[:3]
    regression_slice(
        axes, part(three, lower=three - 1, upper=three + 1, ticks=("a", "b", "c")), 0.95
    )
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["a", "b", "c"]


def test_probabilities_have_one_line_for_each_class_and_a_wrapped_title():
    axes = Figure().subplots()
    p = np.stack([GRID, 1 - GRID], 1)
    held = ", ".join(f"x{i} = 0.123" for i in range(6))
    probability_slice(axes, part(p, held=held), ["no", "yes"])
    assert axes.get_legend_handles_labels()[1] == ["no", "yes"]
    assert max(map(len, axes.get_title().splitlines())) <= 34

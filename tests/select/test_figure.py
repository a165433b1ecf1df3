"""Tests of `bayesgen.select.figure`."""

import numpy as np
import pytest

from bayesgen.select.figure import figure
from bayesgen.select.table import bishop, profile, select


@pytest.fixture(scope="module")
def selection():
    return select(bishop(n=20))


def test_best_three_models_are_shown_in_order(selection):
    panels = figure(selection).axes
    best = [name for name in selection.ranking.index if name != "null"][:3]
    assert [axes.get_title().split("\n")[0] for axes in panels] == best
    value = selection.ranking.log_evidence[best[0]]
    assert panels[0].get_title().endswith(f"log p(D) = {value:.1f}")


def test_lines_are_predictions_and_points_are_data_in_units_of_the_table(selection):
    panels, table = figure(selection).axes, selection.table
    name = panels[0].get_title().split("\n")[0]
    points, line = panels[0].lines
    np.testing.assert_allclose(line.get_ydata(), profile(selection, name, 0)["mean"])
    observed = np.asarray(table.observed).reshape(-1)
    np.testing.assert_allclose(np.asarray(points.get_ydata()).reshape(-1), observed)
    assert panels[0].get_ylabel() == table.target

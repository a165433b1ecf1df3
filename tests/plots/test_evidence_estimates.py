"""Tests of `bayesgen.plots.evidence_estimates`."""

import math

import pandas as pd
import pytest
from matplotlib.figure import Figure

from bayesgen import plots

TABLE = pd.DataFrame(
    {
        "estimate": ["annealed", "annealed", "KFAC", "KFAC"],
        "level": [1.0, 0.0, 0.0, 1.0],
        "value": [-250.0, -100.0, -120.0, -400.0],
        "lower": [-255.0, -104.0, math.nan, math.nan],
        "upper": [-245.0, -96.0, math.nan, math.nan],
    }
)


def test_each_estimate_is_a_line_per_observation_and_an_interval_a_band():
    (axes,) = plots.evidence_estimates(TABLE, n=100, classes=10, title="a $ b").axes
    lines = {line.get_label(): line for line in axes.lines}
    assert set(lines) == {"annealed", "KFAC", "guessing"}
    assert list(lines["annealed"].get_ydata()) == [-1.0, -2.5]
    assert lines["guessing"].get_ydata()[0] == pytest.approx(-math.log(10))
    assert len(axes.collections) == 1
    assert axes.get_legend() is not None


def test_the_lines_are_drawn_on_given_axes():
    figure = Figure(layout="constrained")
    left, right = figure.subplots(1, 2)
    assert plots.evidence_estimates(TABLE, n=100, classes=10, ax=right) is figure
    assert right.lines
    assert not left.lines


@pytest.mark.parametrize(
    ("table", "message"), [(TABLE.drop(columns="lower"), "without lower"), (TABLE[:0], "0 rows")]
)
def test_other_tables_are_refused(table, message):
    with pytest.raises(ValueError, match=message):
        plots.evidence_estimates(table, n=100, classes=10)

"""Tests of `bayesgen.plots.comparison`."""

import numpy as np
import pandas as pd
import pytest

from bayesgen.plots import comparison


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "log_evidence": [-10.0, -14.0, -30.0],
            "per_observation": [-1.0, -1.4, -3.0],
            "fit": [-6.0, -9.0, -29.0],
            "complexity": [4.0, 5.0, 1.0],
            "probability": [0.98, 0.0001, np.nan],
        },
        index=["gp", "line", "null"],
    )


def test_points_are_evidence_and_its_parts_with_the_best_on_top(table):
    total, parts = comparison(table).axes
    places = total.collections[0].get_offsets()
    np.testing.assert_allclose(places, [[-3.0, 0], [-1.4, 1], [-1.0, 2]])
    assert [label.get_text() for label in total.get_yticklabels()] == ["null", "line", "gp"]
    fit, complexity = (c.get_offsets()[:, 0] for c in parts.collections)
    np.testing.assert_allclose(fit - complexity, places[:, 0])
    assert [text.get_text() for text in total.texts] == ["< 0.001", "0.98"]
    assert list(total.lines[0].get_xdata()) == [-3.0, -3.0]  # This is the null model's line.


def test_table_without_evidence_raises(table):
    with pytest.raises(ValueError, match="it lacks complexity, fit"):
        comparison(table.drop(columns=["fit", "complexity"]))

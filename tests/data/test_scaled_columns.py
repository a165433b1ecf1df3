"""Tests of `bayesgen.data.scaled_columns`."""

import json

import pandas as pd
import pytest
import torch

from bayesgen.data.columns import Columns
from bayesgen.data.scaled_columns import ScaledColumns

FRAME = pd.DataFrame(
    {
        "size": [1.0, 2.0, 4.0],
        "kind": ["b", "a", "b"],
        "day": pd.to_datetime(["2000-01-01", "2001-01-01", "2000-07-01"]),
        "ok": [True, False, True],
    }
)


def made(**more):
    centre, size = torch.arange(3.0).double(), torch.tensor([2.0, 1.0, 4.0]).double()
    return ScaledColumns(Columns.of(FRAME), centre, size, (0, 2, 4), "y", **more)


def test_another_table_is_coded_and_scaled_as_the_first():
    columns = made()
    assert columns.inputs == ("size", "kind=b", "ok")
    new = FRAME.iloc[[1]][["ok", "day", "kind", "size"]].assign(other=3)
    assert columns.encode(new).tolist() == [[1.0, -1.0, -0.5]]


def test_columns_survive_json():
    columns = made(classes=("a", "b"))
    again = ScaledColumns.from_text(json.loads(json.dumps(columns.to_text())))
    assert again.to_text() == columns.to_text()
    assert torch.equal(again.encode(FRAME), columns.encode(FRAME))


@pytest.mark.parametrize(
    "change", [{"kept": [0, 9, 2]}, {"centre": [1.0]}, {"columns": 3}, {"size": "x"}]
)
def test_damaged_texts_raise(change):
    with pytest.raises(ValueError, match="damaged"):
        ScaledColumns.from_text(made().to_text() | change)

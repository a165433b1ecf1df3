"""Tests of `bayesgen.reports.contents`."""

import numpy as np
import pandas as pd
import xarray as xr

from bayesgen.reports import Facts, TableBlock
from bayesgen.reports.contents import facts, made, settings, table, values


def test_a_frame_becomes_a_table_with_its_formats_and_headings():
    frame = pd.DataFrame(
        {"p": [0.5, np.nan], "label": ["<b>", "y"], "k": [1200, 3]},
        index=pd.Index(["one", "two"], name="model"),
    )
    found = table(frame, "Models", {"p": ".2f"})
    assert found.columns == ("model", "p", "label", "k")
    assert found.rows == (("one", "0.50", "<b>", "1,200"), ("two", "–", "y", "3"))
    assert found.right == (False, True, False, True)
    chosen = table(frame, "Models", headings={"k": "rows"})
    assert (chosen.columns, chosen.rows[0]) == (("model", "rows"), ("one", "1,200"))


def test_values_are_means_over_repeats_in_a_table_for_each_set_of_dims():
    rng = np.random.default_rng(0)
    result = xr.Dataset(
        {
            "log_evidence": (("level", "seed"), rng.normal(size=(2, 3)), {"units": "nats"}),
            "error": (("model", "level", "seed"), rng.normal(size=(2, 2, 3))),
            "kind": ("model", ["a", "b"]),
            "best": ("seed", [1.0, 2.0, 3.0]),
            "curve": (("point", "level"), rng.normal(size=(300, 2))),
        },
        {"level": [0.0, 0.5], "seed": [0, 1, 2], "model": ["gp", "mlp"]},
    )
    blocks = values(result)
    tables = {block.caption: block for block in blocks if isinstance(block, TableBlock)}
    assert set(tables) == {
        "By level, means over seed", "By model and level, means over seed",
        "By model, means over seed",
    }  # fmt: skip
    one = tables["By level, means over seed"]
    assert one.columns == ("level", "log evidence, nats")
    assert one.rows[1] == ("0.5", f"{float(result.log_evidence[1].mean()):.4g}")
    two = tables["By model and level, means over seed"]
    assert two.columns == ("model", "level", "error")
    assert two.rows[2][:2] == ("mlp", "0")
    assert two.rows[2][2] == f"{float(result.error[1, 0].mean()):.4g}"
    assert [block for block in blocks if isinstance(block, Facts)] == [Facts([("best", "2")])]


def test_attributes_stand_in_their_sections():
    attrs = {"data": "digits", "n": 1500, "command": "bayesgen x", "kernel": "rbf", "run": "abc"}
    (data,) = facts(attrs, {"data": "data", "n": "observations n", "classes": "C"})
    assert data.pairs == [("data", "digits"), ("observations n", "1,500")]
    assert settings(attrs) == [Facts([("kernel", "rbf")])]
    (how,) = made(attrs, {"command": "another", "platform": "here"})
    assert how.pairs == [("command", "bayesgen x"), ("platform", "here")]
    assert facts({}, {"n": "n"}) == []

"""Tests of `bayesgen.commands.output`."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from bayesgen._internal import interrupts
from bayesgen.commands import output

FRAME = pd.DataFrame({"a b": [1.0, math.inf], "inter- vals": [np.int64(3), 4]}, index=["x", "y"])


def test_a_document_is_valid_where_values_are_not(capsys):
    with output.made(False, True) as shown, shown.running("bayesgen x"):
        print("other words")
        shown.table(FRAME.rename_axis("name"), "A title")
        shown.attrs({"n": np.int64(3), "path": None, "ok": np.bool_(True), "xs": np.arange(2)})
    document = json.loads(capsys.readouterr().out)
    assert document["tables"]["summary"] == [
        {"name": "x", "a b": 1.0, "intervals": 3},
        {"name": "y", "a b": None, "intervals": 4},
    ]
    assert document["attrs"] == {"n": 3, "path": None, "ok": True, "xs": [0, 1]}


def test_a_failure_after_the_result_is_in_the_document(capsys):
    def run():
        with output.made(False, True) as shown, shown.running("bayesgen x"):
            shown.table(FRAME, "A title")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        run()
    assert json.loads(capsys.readouterr().out)["error"] == "the disk is full"


def test_wide_tables_are_not_cut(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    wide = pd.DataFrame([np.full(12, 1234567.0)], columns=[f"c{i}" for i in range(12)], index=["m"])
    with output.made(False, False) as shown:
        shown.table(wide, "", dict.fromkeys(wide, ",.1f"))
    assert capsys.readouterr().out.count("1,234,567.0") == 12


def test_a_stop_says_how_far_the_work_was(monkeypatch):
    watch = interrupts.Watch()
    monkeypatch.setattr(interrupts, "_watch", watch)

    def run():
        with output.made(True, False) as shown, shown.progress() as report:
            report(1, 4, "gp")
            watch.number = 2  # as if an import had swallowed the exception
            report(2, 4, "mlp")

    with pytest.raises(interrupts.Stopped) as stop:
        run()
    assert stop.value.steps == " at mlp (2 of 4 steps done)"

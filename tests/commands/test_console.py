"""Tests of `bayesgen.commands.console` and `bayesgen.commands.printed`."""

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from bayesgen.commands.console import plain, table
from bayesgen.commands.printed import print_plan
from bayesgen.solvers import Machine, Plan


def printed(thing, width=200):
    console = Console(width=width, highlight=False)
    with console.capture() as said:
        console.print(thing)
    return said.get()


def test_table_shows_every_cell_in_its_format():
    frame = pd.DataFrame(
        {"log p(D)": [-1.23456, -2.0], "N_eff": [12_345.6, np.nan]},
        index=pd.Index([0.0, 0.25], name="level"),
    )
    lines = printed(table(frame, "A title", {"N_eff": ",.0f"})).splitlines()
    assert "A title" in lines[0]
    rows = [line.split() for line in lines if line.strip().startswith("0")]
    assert rows == [["0", "-1.235", "12,346"], ["0.25", "-2.000", "–"]]


def test_truth_values_are_words():
    frame = pd.DataFrame({"score": [1.0, 2.0], "at bound": [True, False]}, index=["a", "b"])
    rows = [line.split() for line in printed(table(frame, "", {})).splitlines()]
    assert ["a", "1.000", "yes"] in rows
    assert ["b", "2.000", "no"] in rows


def test_brackets_are_not_read_as_markup():
    assert printed(plain("grid=[1.0] [bold] is text")).strip() == "grid=[1.0] [bold] is text"
    frame = pd.DataFrame({"a": [1.0]}, index=pd.Index(["GP [RBF]"], name="model"))
    assert "GP [RBF]" in printed(table(frame, "", {}))


@pytest.mark.parametrize("rate", [0.0, 2e9])
def test_plan_is_printed_with_its_reason_and_the_machine(capsys, rate):
    machine = Machine(20e9, 100e9, {"float32": 2e11, "float64": 1e11}, rate, "a CPU")
    print_plan(Plan("krylov", "disk", "float32", 5e9, 61.0, "too large [for memory]"), machine)
    said = capsys.readouterr().out
    for part in ("krylov", "float32, storage: disk", "5.0 GB of 20.0 free", "about 61 s",
                 "too large [for memory]", "float32 200, float64 100 GFLOP/s"):  # fmt: skip
        assert part in said
    assert ("2 GB/s" in said) == bool(rate)

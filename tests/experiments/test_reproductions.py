"""Tests of `bayesgen.experiments.reproductions` and of `bayesgen.plots.figure_one`."""

import runpy
from pathlib import Path

import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure

from bayesgen import experiments
from bayesgen.experiments import PAGES, REPRODUCTIONS, reproduce, reproduce_page, reproductions
from bayesgen.experiments.experiment import claim, experiment
from bayesgen.experiments.reproductions import part_of

CALLS = []
DOCS = Path(__file__).parents[2] / "docs"


def drawn(result):
    return Figure()


@experiment(plot=drawn, quick={"times": 3})
def counted(*, times=2, command=None):
    """Counts its runs."""
    CALLS.append(times)
    return xr.Dataset(
        {"value": ((), times)}, attrs={"title": "counted", **claim("a", "b", "yes"), "command": "c"}
    )


@pytest.fixture
def toy(monkeypatch):
    CALLS.clear()
    monkeypatch.setitem(REPRODUCTIONS, "counted", counted)


def test_quick_settings_replace_defaults_and_given_ones_replace_both(toy):
    assert int(reproduce("counted").value) == 2
    assert int(reproduce("counted", quick=True).value) == 3
    assert int(reproduce("counted", quick=True, times=5).value) == 5


def test_a_stored_result_is_read_only_for_the_same_settings(toy, tmp_path):
    for _ in range(2):
        assert int(reproduce("counted", store=tmp_path).value) == 2
    assert int(reproduce("counted", store=tmp_path, times=4).value) == 4
    assert int(reproduce("counted", store=tmp_path, times=4).value) == 4
    assert CALLS == [2, 4]


def test_a_stored_result_of_another_version_is_not_read(toy, tmp_path, monkeypatch):
    reproduce("counted", store=tmp_path)
    monkeypatch.setattr(reproductions.bayesgen, "__version__", "0.0.0")
    reproduce("counted", store=tmp_path)
    (tmp_path / "counted.nc").write_bytes(b"half a file")
    reproduce("counted", store=tmp_path)
    assert CALLS == [2, 2, 2]


def test_unknown_names_and_settings_are_named(toy):
    with pytest.raises(ValueError, match="name must be one of"):
        reproduce("fig9")
    with pytest.raises(TypeError, match="counted has no setting 'device'; it has times"):
        reproduce("counted", device="cpu")
    with pytest.raises(ValueError, match="name must be one of"):
        reproduce_page("fig5")


def test_a_page_gives_settings_to_the_parts_that_have_them(toy, monkeypatch, tmp_path):
    page = reproductions.Page(("counted", "fig1abc"), drawn, "A page.")
    monkeypatch.setitem(PAGES, "toy", page)
    found = reproduce_page("toy", store=tmp_path, times=6)
    assert list(found) == ["counted", "fig1abc"]
    assert int(found["counted"].value) == 6


def test_every_reproduction_is_described_and_has_a_claim_or_figure():
    lines = reproductions.described()
    assert set(lines) == {*PAGES, *REPRODUCTIONS}
    assert all(20 < len(line) < 110 and line.endswith(".") for line in lines.values()), lines


def test_results_state_whether_the_claim_holds():
    for name, settings in {
        "fig1abc": {},
        "occam": {"largest": 100},
        "germain": {"sizes": (10, 100, 1000)},
    }.items():
        result = reproduce(name, **settings)
        assert result.attrs["holds"] == "yes", name
        assert result.attrs["paper"].endswith(".")
        assert result.attrs["found"].endswith(".")
    assert experiments.order_selection.quick == {}


def test_settings_that_differ_in_a_late_digit_are_told_apart(tmp_path):
    settings = {"data": "digits", "train": 40, "test": 30, "seeds": 1, "store": tmp_path}
    for level in (0.50001, 0.50004):
        levels = torch.tensor([0.0, level], dtype=torch.float64)
        assert float(reproduce("fig1d", levels=levels, **settings).level[-1]) == level


def test_a_part_of_a_page_is_found_by_its_kind_of_model():
    assert part_of("fig2", "classifier") == "fig2a"
    assert part_of("fig2", "language") == "fig2b"
    with pytest.raises(ValueError, match="model can be given for fig2, got it for 'fig1'"):
        part_of("fig1", "language")


def test_a_page_refuses_a_setting_that_no_part_has():
    with pytest.raises(TypeError, match="no part of fig1 has a setting 'seedz'"):
        reproduce_page("fig1", seedz=3)


def test_every_name_has_a_row_on_the_page():
    page = (DOCS / "reproduction.md").read_text(encoding="utf-8")
    assert [name for name in REPRODUCTIONS if f"| {name} | " not in page] == []


def test_rows_of_the_page_are_replaced_by_those_of_a_table():
    filled = runpy.run_path(str(DOCS / "fill_reproduction.py"))["filled"]
    page = "A\n<!-- rows: written by docs/fill_reproduction.py -->\n"
    page += "| name | x |\n| --- | --- |\n| a | stale |\n| b | kept |\n<!-- end of rows -->\nB\n"
    made = filled(page, "| name | x |\n| --- | --- |\n| a | new `c --out d` |\n")
    assert "| a | new `c` |" in made
    assert "| b | kept |" in made
    assert "stale" not in made
    assert made.startswith("A\n")
    assert made.endswith("B\n")

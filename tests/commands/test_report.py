"""Tests of `bayesgen.commands.report`."""

from html import escape, unescape

import pandas as pd
import pytest

from tests.helpers import run_command

SMALL = ["--train", "60", "--test", "40", "--levels", "0,1", "--seeds", "1"]
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def table(tmp_path):
    rows = {"a$b": [0.1 * k for k in range(40)], "<b>x</b>": [k % 7 for k in range(40)]}
    path = tmp_path / "table.csv"
    labels = [EVIL if k % 3 else "x & y" for k in range(40)]
    frame = pd.DataFrame(rows | {"kind": labels})
    frame.loc[3, "a$b"] = None
    frame.to_csv(path, index=False)
    return path


def report(folder, name="report.html"):
    return (folder / name).read_text(encoding="utf-8")


def test_report_has_what_was_printed_and_how_it_was_made(monkeypatch, tmp_path, capfd):
    assert not run_command(monkeypatch, "corruption", *SMALL, "--out", tmp_path)
    assert "Wrote" in capfd.readouterr().out
    page = report(tmp_path)
    assert "<h1>Evidence against label corruption</h1>" in page
    assert "digits, n = 60: evidence in nats, means over seeds" in page
    assert "Rounding leaves the evidence uncertain" in page
    assert "There is one seed only" in page
    assert "bayesgen corruption --train 60" in page
    assert "torch " in page
    assert page.count("<svg") == 1


def test_report_is_the_same_for_quiet_and_json(monkeypatch, tmp_path, capfd):
    assert not run_command(monkeypatch, "corruption", *SMALL, "--json", "--out", tmp_path)
    assert "Rounding leaves the evidence uncertain" in report(tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        ("select", "--models", "linear"),
        ("certify", "--levels", "0,1"),
        ("laplace", "--epochs", "3", "--steps", "5", "--curvature", "ggn,last_layer"),
    ],
)
def test_texts_of_a_table_are_escaped(monkeypatch, tmp_path, table, capfd, words):
    command = (*words, "--csv", table, "--target", "kind", "--out", tmp_path / "out")
    assert not run_command(monkeypatch, *command)
    page = report(tmp_path / "out")
    assert "<script" not in page
    assert "<b>" not in page
    assert "1 row with missing values was left out" in page
    assert str(tmp_path) not in page.partition("How it was made")[0]
    if words[0] == "select":
        assert escape(EVIL) in page
        assert "names of the classes" in page


def test_predictions_have_a_report(monkeypatch, tmp_path, table, capfd):
    words = ("--csv", table, "--target", "kind", "--models", "linear", "--out", tmp_path / "best")
    assert not run_command(monkeypatch, "select", *words)
    model = tmp_path / "best" / "model.bayesgen"
    assert not run_command(
        monkeypatch, "predict", "--model", model, "--csv", table, "--out", tmp_path / "new"
    )
    page = report(tmp_path / "new")
    assert "the first 10" in page
    assert escape(EVIL) in page
    assert "<script" not in page


def test_deep_kernels_warn_about_what_is_unpaid(monkeypatch, tmp_path, capfd):
    small = ["--train", "30", "--test", "20", "--levels", "0", "--out", tmp_path]
    assert not run_command(monkeypatch, "dkl", *small)
    assert "the complexity excludes the features" in report(tmp_path)


def test_reproductions_have_a_report_each(monkeypatch, tmp_path, capfd):
    assert not run_command(monkeypatch, "reproduce", "occam", "--quick", "--out", tmp_path)
    page = report(tmp_path, "occam.html")
    assert "<h2>Claim</h2>" in page
    assert "does it hold?" in page
    assert "Occam's razor" in unescape(page)

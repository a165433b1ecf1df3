"""Tests of `bayesgen.commands.select`."""

import math

import pandas as pd
import pytest
import torch

from tests.helpers import run_command

F64 = torch.float64


def data(n=30):
    x = torch.linspace(-1, 1, n, dtype=F64)
    return x, torch.sin(4 * x) + 0.1 * torch.cos(57 * x)


def frame(n=25):
    x, y = data(n)
    return pd.DataFrame({"x": x.numpy(), "z": x.numpy() ** 2, "y": 100 + 5 * y.numpy()})


def test_select_command_ranks_models_of_table(monkeypatch, tmp_path, capsys):
    table = frame()
    table["name"], table["one"] = "text", 1.0
    table.loc[3, "x"] = math.nan
    table.to_csv(tmp_path / "table.csv", index=False)
    out = tmp_path / "out"
    arguments = ("--csv", tmp_path / "table.csv", "--target", "y", "--out", out)
    assert not run_command(monkeypatch, "select", *arguments)
    printed = capsys.readouterr()
    assert "null" in printed.out
    assert "constant columns were left out: name=text, one" in printed.err
    assert "1 row with missing values was left out, the first of them row 4" in printed.err
    ranking = pd.read_csv(out / "ranking.csv", index_col="model")
    assert ranking.log_evidence.is_monotonic_decreasing
    assert {p.name for p in out.iterdir()} == {
        "ranking.csv",
        "ranking.png",
        "fits.png",
        "ranking.toml",
        "report.html",
        "model.bayesgen",
    }


def test_select_command_runs_demo(monkeypatch, tmp_path, capsys):
    assert not run_command(monkeypatch, "select", "--demo", "bishop", "--out", tmp_path)
    assert "polynomial 30, decaying" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "target", "message"),
    [
        (lambda t: t.assign(y="text"), "y", "target 'y' must vary"),
        (lambda t: t, "w", "--target must be a column of the table"),
        (lambda t: t[:4], "y", "at least 5 rows without missing values, got 4"),
        (lambda t: t.assign(y=1.0), "y", "target 'y' must vary"),
        (lambda t: t[["y"]].assign(a=3), "y", "a column beside 'y' that varies"),
        (
            lambda t: t.assign(x=[math.inf] + [1.0] * 24),
            "y",
            "1 infinite value in the column 'x', the first in row 1",
        ),
    ],
)
def test_invalid_tables_end_with_error(monkeypatch, tmp_path, capsys, change, target, message):
    change(frame()).to_csv(tmp_path / "t.csv", index=False)
    arguments = ("--csv", tmp_path / "t.csv", "--target", target, "--out", tmp_path)
    assert run_command(monkeypatch, "select", *arguments) == 2
    assert message in capsys.readouterr().err


def test_select_command_requires_data(monkeypatch, tmp_path, capsys):
    assert run_command(monkeypatch, "select") == 2
    assert run_command(monkeypatch, "select", "--csv", tmp_path / "none.csv", "--target", "y") == 2
    assert run_command(monkeypatch, "select", "--csv", tmp_path / "none.csv") == 2
    said = capsys.readouterr().err
    assert "one of --csv FILE" in said
    assert "--csv must be a file" in said
    assert "--target must be given" in said

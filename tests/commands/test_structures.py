"""Tests of `bayesgen.commands.structures`: `bayesgen select --search`."""

import numpy as np
import pandas as pd
import pytest

from tests.helpers import run_command


@pytest.fixture
def table(tmp_path):
    t = np.linspace(2000, 2005, 50)
    noise = 0.1 * np.random.default_rng(0).normal(size=50)
    frame = pd.DataFrame(
        {"year": t, "level": 300 + 2 * (t - 2000) + noise, "kind": ["a", "b"] * 25}
    )
    frame.to_csv(tmp_path / "levels.csv", index=False)
    frame[["year", "level"]].to_csv(tmp_path / "line.csv", index=False)
    return tmp_path


def test_search_prints_what_each_part_is_and_keeps_the_model(monkeypatch, table, capsys):
    out = table / "out"
    line = table / "line.csv"
    done = run_command(
        monkeypatch, "select", "--csv", line, "--target", "level", "--search", "--out", out
    )
    assert not done
    said = capsys.readouterr().out
    assert "The best structure is linear:" in said
    assert "Linear: a straight line." in said
    assert sorted(p.name for p in out.iterdir()) == [
        "components.png", "model.bayesgen", "ranking.csv", "ranking.toml", "report.html"
    ]  # fmt: skip
    ranking = pd.read_csv(out / "ranking.csv", index_col=0)
    assert ranking.index[0] == "linear"
    model = out / "model.bayesgen"
    assert not run_command(
        monkeypatch, "predict", "--model", model, "--csv", line, "--out", table / "p"
    )
    found = pd.read_csv(table / "p" / "predictions.csv")
    assert np.abs(found["mean"] - pd.read_csv(line)["level"]).max() < 0.5


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--target", "kind", "--search"], "--search needs a real target, and 'kind' holds 2"),
        (["--target", "level", "--search", "--models", "linear"], "must not be given together"),
    ],
)
def test_search_is_for_real_targets(monkeypatch, table, capsys, more, words):
    out = table / "none"
    assert (
        run_command(monkeypatch, "select", "--csv", table / "levels.csv", *more, "--out", out) == 2
    )
    assert words in capsys.readouterr().err
    assert not out.exists()

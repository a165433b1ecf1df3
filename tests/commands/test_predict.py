"""Tests of `bayesgen.commands.predict`."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

import bayesgen as bg
from tests.helpers import run_command


@pytest.fixture
def tables(tmp_path):
    """A table of measurements and classes, in a file."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.normal(50, 10, 80), "site": ["n", "s"] * 40})
    frame["mass"] = 3 * frame["size"] + 20 * (frame.site == "s") + rng.normal(0, 2, 80)
    frame["kind"] = np.where(frame["size"] + rng.normal(0, 3, 80) > 50, "large", "small")
    frame.to_csv(tmp_path / "t.csv", index=False, sep=";")
    return frame


def select(monkeypatch, tmp_path, target, *words):
    arguments = ("--csv", tmp_path / "t.csv", "--sep", ";", "--target", target)
    out = ("--out", tmp_path / "chosen", "--models", "linear,gp:rbf")
    assert not run_command(monkeypatch, "select", *arguments, *out, *words)
    return tmp_path / "chosen" / "model.bayesgen"


def predict(monkeypatch, tmp_path, model, table, *words):
    out = tmp_path / "predicted"
    arguments = ("--model", model, "--csv", table, "--out", out, "--overwrite")
    assert not run_command(monkeypatch, "predict", *arguments, *words)
    return pd.read_csv(out / "predictions.csv", index_col="row")


def test_a_regression_is_predicted_in_the_units_of_the_table(monkeypatch, tmp_path, tables, capfd):
    model = select(monkeypatch, tmp_path, "mass")
    new = tables[["kind", "site", "size"]].assign(other="x")
    new.loc[2, "size"] = np.nan
    new.to_csv(tmp_path / "new.csv", index=False)
    capfd.readouterr()
    found = predict(monkeypatch, tmp_path, model, tmp_path / "new.csv", "--level", "0.5")
    printed = capfd.readouterr()
    assert "79 predictions of model.bayesgen, the first 10" in printed.out
    assert "1 row with missing values was left out, the first of them row 3" in printed.err
    assert list(found.index) == [i for i in range(1, 81) if i != 3]
    truth = tables.mass.to_numpy()[found.index - 1]
    assert np.abs(found["mean"] - truth).max() < 10
    inside = ((found.lower < truth) & (truth < found.upper)).mean()
    assert 0.3 < inside < 0.7
    assert run_command(monkeypatch, "select", "--csv", tmp_path / "new.csv", "--target", "nn") == 2


def test_classes_are_predicted_by_their_names(monkeypatch, tmp_path, tables, capfd):
    file = tmp_path / "own" / "best.bayesgen"
    select(monkeypatch, tmp_path, "kind", "--save", file)
    assert "softmax and Laplace" in capfd.readouterr().out
    assert not (tmp_path / "chosen" / "model.bayesgen").exists()
    found = predict(monkeypatch, tmp_path, file, tmp_path / "t.csv", "--sep", ";", "--json")
    document = json.loads(capfd.readouterr().out)
    assert len(document["tables"]["predictions"]) == 80
    assert list(found) == ["label", "p(large)", "p(small)"]
    assert (found.label.to_numpy() == tables.kind).mean() > 0.8
    np.testing.assert_allclose(found["p(large)"] + found["p(small)"], 1)


def test_a_model_without_names_takes_columns_in_order(monkeypatch, tmp_path, capfd):
    x = torch.rand(30, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    posterior = bg.Polynomial(1).fit(x, x @ torch.tensor([1.0, -2.0]).double())
    posterior.save(tmp_path / "m.bayesgen")
    table = pd.DataFrame({"a": x[:, 0], "id": ["k"] * 30, "b": x[:, 1]})
    table.to_csv(tmp_path / "t.csv", index=False)
    found = predict(
        monkeypatch, tmp_path, tmp_path / "m.bayesgen", tmp_path / "t.csv", "--drop", "id"
    )
    np.testing.assert_allclose(found["mean"], x[:, 0] - 2 * x[:, 1], atol=1e-3)
    words = (
        "--model",
        tmp_path / "m.bayesgen",
        "--csv",
        tmp_path / "t.csv",
        "--out",
        tmp_path / "x",
    )
    for more, message in (
        ((), "the column 'id' holds texts; leave it out with --drop id"),
        (("--drop", "idd"), "--drop must be a column of the table (a, id, b), got 'idd'; did you"),
        (("--level", "1"), "--level must lie in (0, 1)"),
    ):
        assert run_command(monkeypatch, "predict", *words, *more) == 2
        assert message in capfd.readouterr().err
    assert not (tmp_path / "x").exists()


def test_other_files_end_with_one_sentence(monkeypatch, tmp_path, tables, capfd):
    words = ("--model", tmp_path / "t.csv", "--csv", tmp_path / "t.csv", "--out", tmp_path / "x")
    assert run_command(monkeypatch, "predict", *words) == 2
    assert "is not a file of posterior.save" in capfd.readouterr().err
    model = select(monkeypatch, tmp_path, "mass")
    tables.drop(columns="size").to_csv(tmp_path / "few.csv", index=False)
    capfd.readouterr()
    words = ("--model", model, "--csv", tmp_path / "few.csv", "--out", tmp_path / "x")
    assert run_command(monkeypatch, "predict", *words) == 2
    assert (
        "--csv must have the columns 'size', 'site', 'kind', but 'size' is missing"
        in capfd.readouterr().err
    )


def test_a_network_that_was_fitted_to_a_table_finds_its_columns(monkeypatch, tmp_path):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"a": draw.normal(size=30), "b": draw.normal(size=30)})
    labels = (frame["a"] > 0).astype(int)
    net = bg.networks.MLP(2, (3,), 2).double()
    bg.train(net, frame, labels, epochs=2, prior_precision=1.0, to_mode=True)
    laplace = bg.Laplace(net, prior_precision=1.0, hyperparameters="fixed")
    posterior = laplace.fit(frame, labels)
    posterior.save(tmp_path / "net.bayesgen")
    frame[["b", "a"]].to_csv(tmp_path / "new.csv", index=False)
    words = ("--model", tmp_path / "net.bayesgen", "--csv", tmp_path / "new.csv")
    assert not run_command(monkeypatch, "predict", *words, "--out", tmp_path / "out")
    found = pd.read_csv(tmp_path / "out" / "predictions.csv")
    np.testing.assert_allclose(found["p(1)"], posterior.predict(frame).probs[:, 1], rtol=1e-6)

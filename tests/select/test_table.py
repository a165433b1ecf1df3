"""Tests of `bayesgen.select.table`."""

import numpy as np
import pandas as pd
import pytest
import torch

from bayesgen import select
from bayesgen.errors import NotConvergedError
from bayesgen.select import table as tables

F64 = torch.float64


def data(n=30):
    x = torch.linspace(-1, 1, n, dtype=F64)
    return x, torch.sin(4 * x) + 0.1 * torch.cos(57 * x)


def frame(n=25):
    x, y = data(n)
    return pd.DataFrame({"x": x.numpy(), "z": x.numpy() ** 2, "y": 100 + 5 * y.numpy()})


def test_predictions_are_in_units_of_table():
    selection = select.select(select.from_frame(frame()[["x", "y"]], "y"))
    best = selection.ranking.index[0]
    curve = select.table.profile(selection, best, 0)
    assert curve["mean"].between(85, 115).all()
    assert (curve.low < curve["mean"]).all()
    assert curve.x.min() == pytest.approx(-1)


def test_few_whole_numbers_and_texts_are_classes():
    x = np.linspace(0, 1, 60)
    codes = pd.DataFrame({"x": x, "y": np.arange(60) % 3})
    table = select.from_frame(codes, "y")
    assert table.classes == ("0", "1", "2")
    assert "taken as classes; --task regression" in table.notes[0]
    assert select.from_frame(codes, "y", task="regression").classes == ()
    assert select.from_frame(codes.assign(y=codes.y / 2), "y").classes == ()
    assert select.from_frame(codes.assign(y=np.arange(60) % 15), "y").classes == ()
    words = codes.assign(y=np.where(x > 0.5, "high", "low"))
    assert select.from_frame(words, "y").classes == ("high", "low")
    assert select.from_frame(codes.assign(y=x > 0.5), "y").classes == ("False", "True")
    floats = codes.assign(y=codes.y.astype(float))
    floats.loc[4, "y"] = np.nan
    assert select.from_frame(floats, "y").classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("column", "task", "message"),
    [
        (["a", "b"] * 15, "regression", "must hold numbers for a regression, got 'a'"),
        (np.linspace(0, 1, 30), "classification", "got real numbers such as 0"),
        ([f"t{i}" for i in range(30)], None, "got 30 different values in 30 rows"),
        (np.linspace(0, 1, 30), "ranking", "task must be one of"),
    ],
)
def test_targets_that_do_not_fit_the_task_raise(column, task, message):
    table = pd.DataFrame({"x": range(30), "y": column})
    with pytest.raises(ValueError, match="must") as error:
        select.from_frame(table, "y", task=task)
    assert message in str(error.value)


def test_texts_are_coded_and_long_ones_left_out():
    table = select.from_frame(
        pd.DataFrame({"kind": ["a", "b"] * 30, "id": [f"t{i}" for i in range(60)],
                      "y": np.linspace(0, 1, 60)}), "y"
    )  # fmt: skip
    assert table.inputs == ("kind=a", "kind=b")
    assert any("left out: column 'id' must have texts that repeat" in n for n in table.notes)


def test_models_that_coincide_count_once():
    frame = pd.DataFrame({"x": [0.0, 1.0] * 20})
    frame["y"] = frame.x + 0.3 * np.sin(np.arange(40))

    def models(x, _):
        return tables.candidates(x) | {"again": tables.candidates(x)["linear"]}

    ranking = select.select(select.from_frame(frame, "y"), models=models).ranking
    assert "again" not in ranking.index
    assert "again" in ranking.same_as["linear"]
    apart = ranking[ranking.index != "null"]
    weights = np.exp(apart.log_evidence - apart.log_evidence.max())
    np.testing.assert_allclose(apart.probability, weights / weights.sum(), atol=1e-6)


def test_a_fit_that_does_not_converge_has_no_probability():
    class Failing:
        def fit(self, *_):
            raise NotConvergedError("no mode was found")

    def models(x, _):
        return {"linear": tables.candidates(x)["linear"], "bad": Failing()}

    selection = select.select(tables.bishop(20), models=models)
    assert selection.failed == {"bad": "no mode was found"}
    assert selection.ranking.failed["bad"] == "did not converge"
    assert selection.ranking.probability["linear"] == 1
    assert np.isnan(selection.ranking.probability["bad"])
    with pytest.raises(ValueError, match="none did: no mode was found"):
        select.select(tables.bishop(20), models=lambda *_: {"bad": Failing()})


def test_labels_are_compared_with_guessing():
    x = np.linspace(-1, 1, 40)
    noisy = np.where(x + 0.4 * np.sin(91 * x) > 0, "b", "a")
    selection = select.select(select.from_frame(pd.DataFrame({"x": x, "y": noisy}), "y"))
    assert selection.ranking.log_evidence["null"] == pytest.approx(-40 * np.log(2))
    assert selection.ranking.log_evidence.iloc[0] < 0
    assert tables.best(selection) == selection.ranking.index[0]
    assert "softmax" in selection.notes[0]
    curve = tables.profile(selection, tables.best(selection), 0)
    assert curve["p(b)"].iloc[-1] > 0.7 > 0.3 > curve["p(b)"].iloc[0]
    with pytest.raises(ValueError, match="targets must not be given for a real target"):
        select.select(tables.bishop(20), targets="labels")

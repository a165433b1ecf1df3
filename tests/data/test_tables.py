"""Tests of `bayesgen.data.tables`."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st

from bayesgen.data import from_arrays, from_table, read_table


def table(n=40):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "size": rng.normal(5.0, 2.0, n),
            "colour": np.where(np.arange(n) % 3 == 0, "red", "blue"),
            "seen": pd.date_range("2001-01-01", periods=n, freq="100D"),
            "kind": np.where(np.arange(n) % 2 == 0, "cat", "dog"),
        }
    )


def test_columns_are_coded_and_the_notes_say_so():
    data = from_table(table(), "kind")
    assert data.columns == ("size", "colour=blue", "colour=red", "seen")
    assert data.classes == ("cat", "dog")
    assert data.notes == (
        "texts in 'colour' were coded by 2 indicators",
        "dates in 'seen' were coded as years",
    )
    every = torch.cat([data.x_train, data.x_test])
    assert float(every[:, 3].min()) == 2001.0
    np.testing.assert_array_equal(every[:, 1] + every[:, 2], np.ones(40))


@given(n=st.integers(12, 60), test=st.integers(1, 5), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_each_row_is_a_training_or_a_test_point_with_its_own_label(n, test, seed):
    x = np.arange(n, dtype=float)[:, None]
    y = np.where(np.arange(n) < n // 2, "low", "high")
    data = from_arrays(x, y, test=test, seed=seed)
    rows = torch.cat([data.x_train, data.x_test])[:, 0]
    labels = torch.cat([data.y_train, data.y_test])
    np.testing.assert_array_equal(rows.sort().values, np.arange(n))
    np.testing.assert_array_equal(labels == data.classes.index("low"), rows < n // 2)
    assert len(data.y_test) == test


def test_scaling_uses_the_training_or_the_test_points():
    x = np.random.default_rng(1).normal(3.0, 9.0, (50, 3))
    x[:, 1] = 7.0
    y = np.arange(50) % 2
    data = from_arrays(x, y, standardise="training")
    np.testing.assert_allclose(data.x_train.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(data.x_train.std(0, correction=0), 1)
    assert data.columns == ("x0", "x2")
    assert "constant columns were left out: x1" in data.notes
    held = from_arrays(x, y, standardise="test")
    np.testing.assert_allclose(held.x_test.mean(0), 0, atol=1e-12)
    assert float(held.x_train.mean(0).abs().max()) > 1e-3


def test_labels_may_be_texts_booleans_integers_and_whole_numbers():
    x = torch.randn(20, 2, 3)
    for y, classes in [
        (["b", "a"] * 10, ("a", "b")),
        ([True, False] * 10, ("False", "True")),
        (torch.arange(20) % 3 + 5, ("5", "6", "7")),
        (np.arange(20) % 2.0, ("0", "1")),
    ]:
        data = from_arrays(x, y)
        assert data.classes == classes
        assert data.x_train.shape[1] == 6


def test_frames_of_inputs_keep_their_names_and_lose_incomplete_rows():
    frame = table().drop(columns="kind")
    frame.loc[3, "size"] = np.nan
    data = from_arrays(frame, list(table()["kind"]))
    assert data.columns[0] == "size"
    assert len(data.y_train) + len(data.y_test) == 39
    assert data.notes[0].startswith("1 row with missing values was left out")


def test_files_hold_the_same_table(tmp_path):
    frame = table().drop(columns=["seen", "colour"])
    frame.to_csv(tmp_path / "a.csv", index=False, sep=";")
    np.savez(tmp_path / "a.npz", size=frame["size"], kind=frame["kind"].to_numpy(dtype=str))
    first = from_table(tmp_path / "a.csv", "kind", sep=";")
    second = from_table(tmp_path / "a.npz", "kind")
    assert torch.equal(first.x_train, second.x_train)
    assert first.name == "a"


@pytest.mark.parametrize(
    ("change", "arguments", "error", "words"),
    [
        (lambda t: t, {"target": "sort"}, ValueError, "target must be a column of the table"),
        (
            lambda t: t.assign(kind=1.5),
            {},
            TypeError,
            "the target .kind. must hold classes, got real numbers",
        ),
        (lambda t: t.assign(kind="cat"), {}, ValueError, "at least two classes"),
        (
            lambda t: t.assign(size=np.inf),
            {},
            ValueError,
            "infinite value.* in the column 'size', the first in row 1 ",
        ),
        (lambda t: t.head(2), {}, ValueError, "at least 4 rows"),
        (lambda t: t[["kind"]], {}, ValueError, "a column of inputs, got none"),
        (lambda t: t, {"test": 60}, ValueError, "test must leave points"),
        (lambda t: t, {"standardise": True}, ValueError, "standardise must be one of"),
        (
            lambda t: t.assign(size=t["size"].where(t.index > 2)),
            {"missing": "refuse"},
            ValueError,
            "no missing values, got some in size",
        ),
        (
            lambda t: t.assign(colour=[f"c{i % 59}" for i in range(60)]),
            {},
            ValueError,
            "at most 50 different texts, got 59",
        ),
    ],
)
def test_bad_tables_are_named_in_one_sentence(change, arguments, error, words):
    with pytest.raises(error, match=words):
        from_table(change(table(60)), **({"target": "kind"} | arguments))


def test_bad_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="table must be a file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(TypeError, match="table must be a DataFrame or a file"):
        read_table(3)
    (tmp_path / "head.csv").write_text("a,b\n")
    with pytest.raises(ValueError, match="has a header and no rows"):
        read_table(tmp_path / "head.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ValueError, match="table must hold columns with names"):
        read_table(tmp_path / "empty.csv")
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="table must hold columns with names"):
        read_table(tmp_path / "bad.npz")


def test_lengths_and_labels_of_arrays_are_checked():
    with pytest.raises(ValueError, match=r"y must have shape \(5,\)"):
        from_arrays(np.zeros((5, 2)), [0, 1])
    with pytest.raises(ValueError, match="y must have no missing labels"):
        from_arrays(np.ones((4, 2)), ["a", None, "b", "a"])
    with pytest.raises(ValueError, match=r"x must have shape \(n, …\)"):
        from_arrays(np.zeros(5), [0, 1, 0, 1, 0])

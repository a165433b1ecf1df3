"""Tests of `bayesgen.data.columns`: columns of a table as numbers."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st

from bayesgen.data.columns import Columns, is_table

TABLE = pd.DataFrame(
    {
        "size": [1.5, 2.5, 3.5],
        "flag": [True, False, True],
        "kind": ["b", "a", "b"],
        "day": pd.to_datetime(["2020-01-01", "2021-01-01", "2022-01-01"]),
    }
)


def test_columns_are_coded_by_their_kind():
    columns = Columns.of(TABLE)
    assert columns.coded == ("size", "flag", "kind=a", "kind=b", "day")
    expected = [[1.5, 1, 0, 1, 2020], [2.5, 0, 1, 0, 2021], [3.5, 1, 0, 1, 2022]]
    assert columns.encode(TABLE).tolist() == expected
    assert columns.notes == (
        "texts in 'kind' were coded by 2 indicators",
        "dates in 'day' were coded as years",
    )


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(list(TABLE.columns)), rows=st.lists(st.integers(0, 2), min_size=1))
def test_the_order_of_columns_and_rows_does_not_matter(order, rows):
    columns = Columns.of(TABLE)
    found = columns.encode(TABLE[order].iloc[rows].assign(other=1))
    assert torch.equal(found, columns.encode(TABLE)[rows])


def test_columns_of_float32_only_stay_float32():
    single = pd.DataFrame({"a": np.ones(3, dtype=np.float32)})
    assert Columns.of(single).encode(single).dtype == torch.float32
    assert Columns.of(single).encode(single.astype(float)).dtype == torch.float32
    both = single.assign(b=1.0)
    assert Columns.of(both).encode(both).dtype == torch.float64


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda t: t.drop(columns="size"), ValueError, "but 'size' is missing"),
        (lambda t: t.assign(kind="z"), ValueError, "in column 'kind', got also 'z'"),
        (lambda t: t.assign(size="much"), TypeError, "numbers in column 'size'"),
        (lambda t: t.assign(day=1.0), TypeError, "dates in column 'day'"),
        (lambda t: t.assign(size=[1, np.nan, 2]), ValueError, "column 'size' at row 1"),
        (lambda t: t.assign(kind=["a", None, "b"]), ValueError, "column 'kind=a' at row 1"),
        (lambda t: t.assign(day=[pd.NaT, *t["day"][1:]]), ValueError, "column 'day' at row 0"),
    ],
)
def test_a_table_that_cannot_be_read_is_named_in_one_sentence(change, error, words):
    with pytest.raises(error, match=words) as caught:
        Columns.of(TABLE).encode(change(TABLE), "x_new")
    assert str(caught.value).startswith("x_new must")


def test_columns_of_one_name_and_tables_without_columns_are_refused():
    with pytest.raises(ValueError, match="different names"):
        Columns.of(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(ValueError, match="must have a column"):
        Columns.of(pd.DataFrame(index=[0, 1]))
    assert is_table(TABLE)
    assert not is_table(TABLE["size"])
    assert not is_table(TABLE.to_numpy())


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        (pd.timedelta_range("1D", periods=3), TypeError, "got timedelta(64)? values of dtype"),
        (np.ones(3) * 1j, TypeError, "got complex values"),
        ([{}, {}, {}], TypeError, "got mixed values of dtype object"),
        (["a", 1, "b"], TypeError, "got mixed-integer values"),
        ([None, None, None], ValueError, "'t' must hold values, got none"),
    ],
)
def test_a_column_of_another_kind_is_refused(values, error, words):
    with pytest.raises(error, match=words):
        Columns.of(pd.DataFrame({"t": pd.Series(values)}))


def test_categories_and_nullable_columns_are_coded():
    table = pd.DataFrame(
        {
            "level": pd.Categorical([2, 1, 2]),
            "whole": pd.array([1, 2, 3], dtype="Int64"),
            "word": pd.array(["p", "q", "p"], dtype="string"),
        }
    )
    columns = Columns.of(table)
    assert columns.coded == ("level=1", "level=2", "whole", "word=p", "word=q")
    assert columns.encode(table)[0].tolist() == [0, 1, 1, 1, 0]
    with pytest.raises(ValueError, match="table must have rows, got none"):
        columns.encode(table.head(0))


def test_the_time_of_day_counts():
    table = pd.DataFrame({"t": pd.date_range("2024-05-01", periods=48, freq="30min")})
    found = Columns.of(table).encode(table)[:, 0]
    np.testing.assert_allclose(found.diff() * 365.25 * 48, 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pd.DataFrame({1: [1.0], "1": [2.0]}), "different names, got '1' twice"),
        (pd.DataFrame({"t": ["u", "v"], "t=u": [1.0, 2.0]}), "got 't=u' twice after the texts"),
        (pd.DataFrame({"n": ["1", "2", "3", "x"]}), "got the text 'x' at row 3 among numbers"),
        (pd.DataFrame({"n": [f"a{i}" for i in range(20)]}), "another one in each of 20 rows"),
    ],
)
def test_tables_that_are_probably_mistakes_are_refused(table, words):
    with pytest.raises(ValueError, match=words):
        Columns.of(table)


@pytest.mark.parametrize(
    "values",
    [pd.date_range("2000", periods=3), np.ones(3) * 1j, pd.timedelta_range("1D", periods=3)],
)
def test_numbers_are_not_read_from_dates(values):
    with pytest.raises(TypeError, match="must hold numbers in column 'size'"):
        Columns.of(TABLE).encode(TABLE.assign(size=values))


def test_whole_numbers_as_texts_do_not_depend_on_the_dtype():
    table = pd.DataFrame({"level": pd.Categorical([1, 2, 1])})
    columns = Columns.of(table)
    found = columns.encode(pd.DataFrame({"level": [2.0, 1.0]}))
    assert found.tolist() == [[0, 1], [1, 0]]
    with pytest.raises(ValueError, match="got 'level' twice"):
        columns.encode(pd.concat([table, table], axis=1))

"""Tests of `bayesgen._internal.table_files`."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from bayesgen._internal.table_files import check_columns, check_finite, missing, read_table


def test_reading_a_table_needs_no_torch(tmp_path):
    (tmp_path / "a.csv").write_text("a;b\n1;2\n")
    code = (
        "import sys\nfrom bayesgen._internal.table_files import read_table\n"
        f"assert read_table({str(tmp_path / 'a.csv')!r}, sep=';').columns.tolist() == ['a', 'b']\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_header_without_rows_and_an_empty_file_raise(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("a,b\n")
    with pytest.raises(ValueError, match="has a header and no rows"):
        read_table(file)
    file.write_text("")
    with pytest.raises(ValueError, match="must hold columns with names"):
        read_table(file)


def test_infinite_numbers_are_reported_with_column_and_row(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("a,b\n1,2\n2,-inf\n3,inf\n,5\n")
    with pytest.raises(
        ValueError, match=r"got 2 infinite values in the column 'b', the first in row 2"
    ):
        check_finite(read_table(file))
    check_finite(pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": ["x", None]}))


def test_rows_with_missing_values_are_reported_with_column_and_row():
    rows, note = missing(pd.DataFrame({"a": [1.0, 2.0, np.nan], "b": ["x", None, "y"]}))
    assert rows.tolist() == [False, True, True]
    assert note == "2 rows with missing values were left out, the first of them row 2 (column 'b')"
    assert missing(pd.DataFrame({"a": [1]}))[1] is None


@pytest.mark.parametrize(
    ("names", "target", "message"),
    [
        (["size", "Kind"], "kind", "got 'kind'; did you mean 'Kind'?"),
        (["a;b"], "b", "is the separator of columns another one?"),
        (["a", "a", "b"], "b", "columns of different names, got 'a' twice"),
        (["a", "b"], "zz", "(a, b), got 'zz'"),
    ],
)
def test_other_columns_raise(names, target, message):
    with pytest.raises(ValueError, match="must") as error:
        check_columns(pd.DataFrame([[1] * len(names)], columns=names), target)
    assert message in str(error.value)

"""Tests of `bayesgen._internal.words`."""

import re
from pathlib import Path

import pytest

import bayesgen
from bayesgen._internal.words import plural, without_rows


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 seeds"), (1, "1 seed"), (2, "2 seeds"), (12345, "12,345 seeds")]
)
def test_one_is_singular_and_other_counts_are_plural(count, words):
    assert plural(count, "seed") == words


def test_an_irregular_plural_is_given():
    assert plural(2, "axis", "axes") == "2 axes"
    assert plural(1, "axis", "axes") == "1 axis"


def test_the_verb_follows_the_count():
    assert without_rows(1) == "1 row with missing values was left out"
    assert without_rows(2) == "2 rows with missing values were left out"


def test_no_text_of_the_package_leaves_the_number_open():
    """A text such as "3 row(s)" is for `plural`; code such as f(s) has no space or quote before."""
    open_number = re.compile(r"[\"' ][^\"'=]*\b[a-z]{3,}\(e?s\)[^\"']*[\"']")
    for path in Path(bayesgen.__file__).parent.rglob("*.py"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if open_number.search(line) and ">>>" not in line:
                raise AssertionError(f"{path.name}:{number}: {line.strip()}")

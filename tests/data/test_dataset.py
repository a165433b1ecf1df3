"""Tests of `bayesgen.data.dataset`."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bayesgen import data
from bayesgen.data.dataset import Dataset, subset


def test_restrict_keeps_and_renumbers_classes():
    pair = data.restrict(data.load(), (8, 3))
    assert pair.classes == ("8", "3")
    assert set(pair.y_train.tolist()) == {0, 1}
    assert len(pair.x_train) == len(pair.y_train) < 300
    with pytest.raises(ValueError, match="two or more different labels"):
        data.restrict(pair, (1, 1))


@pytest.fixture
def small():
    x = torch.arange(12.0)[:, None]
    return Dataset("small", x, torch.arange(12) % 4, x[:6], torch.arange(6) % 4, tuple("abcd"))


def test_merged_groups_are_relabelled_and_named(small):
    merged = data.merge(small, [(3, 0), (1,)])
    assert merged.classes == ("d, a", "b")
    assert merged.x_train[:, 0].tolist() == [0, 1, 3, 4, 5, 7, 8, 9, 11]
    assert merged.y_train.tolist() == [0, 1, 0, 0, 1, 0, 0, 1, 0]
    assert merged.y_test.tolist() == [0, 1, 0, 0, 1]


def test_subset_draws_pairs_without_replacement(small):
    few = subset(small, 5, 2, seed=1)
    assert len(set(few.x_train[:, 0].tolist())) == 5
    assert torch.equal(few.x_train[:, 0].long() % 4, few.y_train)
    assert torch.equal(few.x_test[:, 0].long() % 4, few.y_test)
    assert subset(small, 5, 2, seed=1).fingerprint == few.fingerprint
    assert subset(small, 5, 2, seed=2).fingerprint != few.fingerprint
    assert len(subset(small).x_train) == 12


def test_a_data_set_owns_its_arrays(small):
    x = np.ones((4, 2))
    made = Dataset("own", x, np.array([0, 1, 0, 1]), x.copy(), [0, 0, 1, 1], ("a", "b"))
    mark = made.fingerprint
    x *= 7
    assert made.fingerprint == mark
    assert made.y_test.tolist() == [0, 0, 1, 1]
    assert subset(small, np.int64(5)).x_train.shape == (5, 1)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"x_train": torch.full((12, 1), torch.nan)}, ValueError, "x_train must be finite"),
        ({"x_train": torch.ones(12, 1).half()}, TypeError, "x_train must hold real numbers"),
        ({"y_train": torch.full((12,), 4)}, ValueError, r"y_train must lie in 0\.\.3"),
        ({"y_train": torch.zeros(12)}, TypeError, "y_train must hold integer class labels"),
        ({"y_train": torch.zeros(11, dtype=torch.int64)}, ValueError, "x_train and y_train"),
        ({"x_train": torch.ones(12)}, ValueError, "x_train and y_train must have shapes"),
        ({"x_test": torch.ones(6, 2)}, ValueError, "x_test must have 1 columns"),
    ],
)
def test_data_that_do_not_match_raise(small, changes, kind, message):
    with pytest.raises(kind, match=message):
        replace(small, **changes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: data.merge(d, [(0, 1)]), "two or more different labels"),
        (lambda d: data.merge(d, [(0,), ()]), "two or more different labels"),
        (lambda d: data.merge(d, [(0,), (4,)]), r"groups must lie in 0\.\.3"),
        (lambda d: subset(d, 13), "train must be between 1 and the 12 points"),
        (lambda d: subset(d, test=True), "test must be between 1 and the 6 points"),
    ],
)
def test_invalid_selections_raise(small, call, message):
    with pytest.raises(ValueError, match=message):
        call(small)

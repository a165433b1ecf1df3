"""Tests of `bayesgen.provenance.data`."""

import copy
import pickle

import pytest
import torch

from bayesgen.provenance import Data, data as data_module, shared_rows

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(50, 3, generator=GENERATOR, dtype=torch.float64)
SIGNS = torch.where(X[:, 0] > 0, 1.0, -1.0).double()
LABELS = (X[:, 0] > 0).long()
ONE_HOT = torch.nn.functional.one_hot(LABELS, 2).double()


def test_order_of_rows_does_not_matter():
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    one, two = Data(X, SIGNS), Data(X[order], SIGNS[order])
    assert one.fingerprint == two.fingerprint
    assert one.shared(two) == 50


@pytest.mark.parametrize("y", [SIGNS, LABELS, ONE_HOT, 2.5 * SIGNS], ids=str)
def test_codings_of_classes_give_the_same_observations(y):
    assert Data(X, y).fingerprint == Data(X, SIGNS).fingerprint


def test_other_targets_and_other_inputs_have_another_fingerprint():
    assert Data(X, -SIGNS).fingerprint != Data(X, SIGNS).fingerprint
    assert Data(X + 1e-3, SIGNS).fingerprint != Data(X, SIGNS).fingerprint


def test_parts_and_wholes_share_their_rows():
    more = torch.cat([X, torch.randn(30, 3, generator=GENERATOR, dtype=torch.float64)])
    labels = torch.cat([SIGNS, torch.ones(30).double()])
    assert Data(X[:7], SIGNS[:7]).shared(Data(X, SIGNS)) == 7
    assert Data(more, labels).shared(Data(X, SIGNS)) == 50
    assert Data(X[:20], SIGNS[:20]).shared(Data(X[20:], SIGNS[20:])) == 0


def test_one_observation_in_common_is_found_and_ends_of_intervals_are_not():
    own = torch.linspace(0, 1, 50, dtype=torch.float64)[:, None]
    others = torch.linspace(0, 1, 61, dtype=torch.float64)[:, None]
    y, z = torch.sin(7 * own[:, 0]), torch.cos(3 * others[:, 0])
    assert Data(own, y).shared(Data(others, z)) == 0
    z[0] = y[0]
    assert Data(own, y).shared(Data(others, z)) == 1


def test_the_same_inputs_with_other_targets_are_shared():
    assert Data(X, SIGNS).shared(Data(X, torch.randn(50, generator=GENERATOR))) == 50


def test_single_precision_and_negative_zeros_give_the_same_rows():
    x = X.clone()
    x[0, 0] = 0.0
    y = x.clone()
    y[0, 0] = -0.0
    assert Data(x).shared(Data(y.float())) == 50


def test_shapes_beyond_two_axes_and_wide_rows_are_hashed_in_parts(monkeypatch):
    images = torch.rand(9, 1, 4, 4, generator=GENERATOR)
    whole = Data(images).fingerprint
    monkeypatch.setattr(data_module, "_CHUNK", 20)
    assert Data(images.reshape(9, 16)).fingerprint == whole
    assert shared_rows(images, Data(images[:4])).tolist() == [True] * 4 + [False] * 5


def test_many_rows_keep_those_of_the_smallest_hashes(monkeypatch):
    monkeypatch.setattr(data_module, "_ROWS", 16)
    large = torch.arange(1000, dtype=torch.float64)[:, None]
    assert Data(large).shared(Data(large.flip(0))) == 16
    assert Data(large).shared(Data(large + 0.5)) == 0
    assert Data(large[:500]).shared(Data(large)) > 0


def test_copies_and_pickles_keep_the_hashes_and_not_the_data():
    data = Data(X, SIGNS)
    assert data.size == X.numel() + SIGNS.numel()
    again = pickle.loads(pickle.dumps(data))
    assert again.shared(data) == 50
    assert again.size == data.size == 50
    assert copy.deepcopy(data) is data
    assert str(data) == f"50 observations ({again.fingerprint})"

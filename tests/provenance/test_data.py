"""Tests of `bayesgen.provenance.data` and `bayesgen.provenance.targets`."""

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


def test_observations_within_others_are_found(monkeypatch):
    assert Data(X[:20], LABELS[:20]).within(Data(X, ONE_HOT))
    assert not Data(X, LABELS).within(Data(X[:20], LABELS[:20]))
    assert not Data(X[:20], 1 - LABELS[:20]).within(Data(X, LABELS))
    monkeypatch.setattr(data_module, "_ROWS", 10)
    assert Data(X[:20], LABELS[:20]).within(Data(X, ONE_HOT))
    assert not Data(X[:40], LABELS[:40]).within(Data(X[10:], ONE_HOT[10:]))


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


REAL = torch.sin(2 * X[:, 0]) + 0.3 * torch.randn(50, generator=GENERATOR, dtype=torch.float64)


def other_targets(kind, seed):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(50, generator=generator, dtype=torch.float64)
    real = torch.sin(2 * X[:, 0]) + 0.3 * noise
    return {
        "signs": torch.where(noise > 0, 1.0, -1.0).double(),
        "signs with a signal": torch.where(X[:, 0] + 0.7 * noise > 0, 1.0, -1.0).double(),
        "real": real,
        "rounded": (10 * real).round() / 10,
        "counts": (5 * real).round().clamp(min=0),
        "outputs": torch.stack([real, noise], 1),
        "classes": noise.mul(2).long().remainder(4),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["signs", "signs with a signal", "real", "rounded", "counts", "outputs", "classes"],
)
def test_independent_data_on_one_design_are_told_apart(kind):
    seeds = range(12)
    found = [Data(X, other_targets(kind, seed)) for seed in seeds]
    assert [[one.shared(two) > 0 for two in found] for one in found] == [
        [a == b for b in seeds] for a in seeds
    ]


@pytest.mark.parametrize(
    ("y", "z"),
    [
        (SIGNS, -SIGNS),
        (SIGNS, ONE_HOT),
        (SIGNS, torch.where(torch.arange(50) % 25 == 0, -SIGNS, SIGNS)),
        (REAL, 2 * REAL - 3),
        (REAL, -REAL),
        (REAL, REAL.exp()),
        (REAL, torch.where(torch.arange(50) % 3 == 0, REAL, 0.5 * REAL.flip(0))),
        (REAL, torch.stack([torch.cos(9 * X[:, 1]), REAL], 1)),
        (REAL, torch.where(REAL > 0.2, 1.0, -1.0)),
        ((REAL * 2).round(), (REAL * 2).round() % 2),
    ],
    ids=[
        "other sign", "one-hot", "two labels flipped", "other units", "negative", "transformed",
        "a third", "one output", "threshold", "merged classes",
    ],
)  # fmt: skip
def test_the_same_targets_in_another_form_are_shared(y, z):
    order = torch.randperm(50, generator=torch.Generator().manual_seed(3))
    assert Data(X, y).shared(Data(X[order], z[order])) == 50
    assert pickle.loads(pickle.dumps(Data(X, z))).shared(Data(X, y)) == 50


def test_repeated_inputs_and_unknown_targets_are_shared():
    twice = torch.cat([X, X])
    y, z = (torch.randn(100, generator=GENERATOR, dtype=torch.float64) for _ in range(2))
    assert Data(twice, y).shared(Data(twice, z)) == 50
    assert Data(X).shared(Data(X, SIGNS)) == 50
    many = torch.randn(50, 30, generator=GENERATOR)
    assert Data(X, many).shared(Data(X, SIGNS)) == 50


@pytest.mark.parametrize("y", [SIGNS, REAL, torch.stack([REAL, SIGNS], 1)], ids=["1", "2", "3"])
def test_the_same_sequence_of_targets_is_that_of_the_same_data(y):
    standardised = (X - X.mean(0)) / X.std(0)
    more = torch.cat([X, X.square()], 1)
    for x in (standardised, X[:, [2, 0, 1]], more, 0.5 * X):
        assert Data(x, y).shared(Data(X, y)) == 50
        assert Data(x, 0.1 * y + 3 if y is REAL else y).shared(Data(X, y)) == 50
    assert Data(standardised[:20], y[:20]).shared(Data(X[:20], y[:20])) == 0


def test_a_regular_sequence_tells_nothing():
    other = torch.randn(50, 3, generator=GENERATOR, dtype=torch.float64)
    blocks = torch.arange(50).ge(25).long()
    cycle = torch.arange(50) % 5
    for y in (blocks, cycle, cycle % 2, torch.ones(50), torch.arange(50) % 3 == 0):
        assert Data(X, y.double()).shared(Data(other, y.double())) == 0
    line = torch.linspace(0, 1, 50).double()
    assert Data(X, line).shared(Data(other, 2 * line)) == 0


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

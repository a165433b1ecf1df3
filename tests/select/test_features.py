"""Tests of `bayesgen.select.features`."""

import numpy as np
import pytest
import torch

import bayesgen as bg

F64 = torch.float64


def drawn(n=60, d=7):
    rng = np.random.default_rng(0)
    Phi = torch.tensor(rng.normal(size=(n, d)))
    return Phi, torch.tensor(rng.integers(0, 3, n))


@pytest.mark.parametrize("d", [7, 90])
def test_the_evidence_is_that_of_the_normal_density(d):
    Phi, y = drawn(d=d)
    row = bg.select.features({"a": Phi}, y, certify=False).iloc[0]
    coded = torch.nn.functional.one_hot(y, 3).double()
    coded = coded - coded.mean(0)
    K = row.scale * Phi @ Phi.mT + row.noise * torch.eye(60, dtype=F64)
    normal = torch.distributions.MultivariateNormal(torch.zeros(60, dtype=F64), K)
    assert row.log_evidence == pytest.approx(float(normal.log_prob(coded.mT).sum()), abs=1e-6)
    assert row.fit - row.complexity == pytest.approx(row.log_evidence)
    for factor in (0.8, 1.25):
        for s, v in ((factor, 1.0), (1.0, factor)):
            K = s * row.scale * Phi @ Phi.mT + v * row.noise * torch.eye(60, dtype=F64)
            other = torch.distributions.MultivariateNormal(torch.zeros(60, dtype=F64), K)
            assert float(other.log_prob(coded.mT).sum()) < row.log_evidence + 1e-6


def test_informative_features_come_first_and_have_the_smaller_bound():
    data = bg.data.load("digits", train=300)
    noise = torch.randn(300, 20, generator=torch.Generator().manual_seed(0))
    said = []
    found = bg.select.features(
        {"noise": noise, "pixels": data.x_train, "top": data.x_train[:, :32]},
        data.y_train,
        progress=lambda *a: said.append(a[:2]),
    )
    assert list(found.index) == ["pixels", "top", "noise"]
    assert found.bound.is_monotonic_increasing
    assert found.probability.sum() == pytest.approx(1)
    assert said == [(1, 3), (2, 3), (3, 3)]


def test_the_choice_is_paid_for():
    data = bg.data.load("digits", train=200)
    alone = bg.select.features({"a": data.x_train}, data.y_train).bound["a"]
    among = bg.select.features({"a": data.x_train, "b": data.x_train}, data.y_train).bound["a"]
    assert among > alone


def test_real_targets_and_the_order_of_rows():
    Phi, _ = drawn()
    y = Phi[:, 0] + 0.1 * torch.randn(60, dtype=F64)
    found = bg.select.features({"a": Phi}, y)
    assert "bound" not in found
    order = torch.randperm(60)
    again = bg.select.features({"a": Phi[order]}, y[order])
    assert again.log_evidence["a"] == pytest.approx(found.log_evidence["a"], rel=1e-9)


@pytest.mark.parametrize(
    ("candidates", "y", "error", "words"),
    [
        ({}, torch.zeros(4), TypeError, "candidates must be a mapping"),
        ([torch.zeros(4, 1)], torch.zeros(4), TypeError, "candidates must be a mapping"),
        ({"a": torch.zeros(4)}, torch.zeros(5, dtype=torch.int64), ValueError, "y must hold one"),
        ({"a": torch.ones(4, 1), "b": torch.ones(3, 1)}, torch.arange(4), ValueError, "one number"),
        ({"a": torch.ones(4, 1) * torch.nan}, torch.arange(4), ValueError, "candidates"),
        (
            {"a": torch.ones(4, 1)},
            torch.zeros(4, dtype=torch.int64),
            ValueError,
            "2 to 1,000 classes",
        ),
        ({"a": torch.ones(1001, 1)}, torch.arange(1001), ValueError, "2 to 1,000 classes"),
        ({"a": torch.zeros(4, 1)}, torch.tensor([0, 1, 1, 0]), ValueError, r"candidates\['a'\]"),
        (
            {"1": torch.ones(4, 1), 1: torch.ones(4, 1)},
            torch.tensor([0, 1, 1, 0]),
            ValueError,
            "different names",
        ),
    ],
)
def test_bad_arguments_are_named(candidates, y, error, words):
    with pytest.raises(error, match=words):
        bg.select.features(candidates, y)


@pytest.mark.parametrize("names", [(1, 2, 3), (4, 10**6, -1), ("ant", "bee", "cow")])
def test_the_names_of_the_classes_do_not_matter(names):
    Phi, y = drawn()
    plain = bg.select.features({"a": Phi, "b": Phi[:, :3]}, y)
    named = bg.select.features({"a": Phi, "b": Phi[:, :3]}, [names[int(k)] for k in y])
    for column in plain:
        assert named[column].tolist() == pytest.approx(plain[column].tolist(), rel=1e-9)


def test_real_targets_may_be_of_float32():
    Phi, _ = drawn()
    y = Phi[:, 0] + 0.1 * torch.randn(60, dtype=F64)
    found = bg.select.features({"a": Phi.float()}, y.float())
    assert float(found.log_evidence["a"]) == pytest.approx(
        float(bg.select.features({"a": Phi}, y).log_evidence["a"]), rel=1e-4
    )

"""Tests of `bayesgen.likelihoods.labels`."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.preprocessing import LabelEncoder

from bayesgen.likelihoods import Bernoulli, Softmax
from bayesgen.likelihoods.labels import Classes, read

LIKE = torch.zeros(6, 1, dtype=torch.float64)
NAMES = np.array(["b", "c", "a", "a", "c", "b"])


@pytest.mark.parametrize(
    "labels",
    [[1, 2, 2, 1, 3, 1], [0, 5, 0, 5, 9, 9], [-1, 3, 3, -1, 0, 3], NAMES, list(NAMES)],
)
def test_codes_are_those_of_scikit_learn(labels):
    found = Softmax().targets(labels, LIKE)[0].argmax(-1)
    peer = LabelEncoder().fit(labels)
    assert found.tolist() == peer.transform(labels).tolist()
    assert Softmax().for_targets(labels).classes == tuple(peer.classes_.tolist())


def test_tables_and_booleans_are_read_as_labels():
    for labels in (pd.Series(NAMES), pd.Categorical(NAMES), NAMES.astype(object)):
        assert Softmax().for_targets(labels).classes == ("a", "b", "c")
    flags = torch.tensor([True, False, True, True, False, False])
    assert Bernoulli().targets(flags, LIKE)[0, :, 0].tolist() == [1, 0, 1, 1, 0, 0]
    assert Bernoulli().for_targets(flags).classes == (False, True)


@pytest.mark.parametrize("labels", [[1, 2], [-1, 1], [0, 5], [-1.0, 1.0], ["no", "yes"]])
def test_two_labels_become_zero_and_one(labels):
    y = np.array([labels[0], labels[1], labels[1]] * 2)
    found = Bernoulli().targets(y, LIKE)[0, :, 0]
    assert found.tolist() == [0, 1, 1] * 2
    assert Bernoulli().for_targets(y).classes == tuple(labels)


def test_classes_of_a_batch_are_those_of_all_tasks():
    whole = torch.tensor([[0, 1, 3, 0, 1, 3], [0, 1, 1, 0, 1, 0]])
    likelihood = Softmax().for_targets(whole)
    assert likelihood.classes == (0, 1, 3)
    assert likelihood.targets(whole, LIKE).shape == (2, 6, 3)
    assert likelihood.targets(whole[1], LIKE).shape == (1, 6, 3)


def test_labels_of_zero_or_one_only_have_both_classes():
    for label in (0, 1):
        y = torch.full((6,), label)
        assert Softmax().targets(y, LIKE).argmax(-1).tolist() == [[label] * 6]
        assert Bernoulli().targets(y, LIKE)[0, :, 0].tolist() == [label] * 6
    with pytest.raises(ValueError, match="at least two classes, got 5 only"):
        Softmax().targets(torch.full((6,), 5), LIKE)


def test_given_classes_may_be_absent():
    y = torch.tensor([0, 1, 3, 0, 1, 3])
    assert Softmax(5).targets(y, LIKE).shape == (1, 6, 5)
    ordered = Softmax(classes=[3, 7, 0, 1])
    assert ordered.targets(y, LIKE)[0].argmax(-1).tolist() == [2, 3, 0, 2, 3, 0]
    assert ordered.classes == (3, 7, 0, 1)
    with pytest.raises(ValueError, match="must hold the classes 0, 1, got also 3"):
        Softmax(classes=[0, 1]).targets(y, LIKE)
    with pytest.raises(ValueError, match="num_classes must be the number of classes, 2"):
        Softmax(3, classes=[0, 1])


def test_outputs_of_a_network_are_the_labels():
    y = torch.tensor([0, 1, 3, 0, 1, 3])
    own = Softmax().for_outputs(4, y.shape)
    assert own.targets(y, LIKE).shape == (1, 6, 4)
    with pytest.raises(ValueError, match=r"0\.\.2"):
        Softmax().for_outputs(3, y.shape).targets(y, LIKE)
    with pytest.raises(ValueError, match="must hold the classes 0, 1"):
        Bernoulli().for_outputs(1, y.shape).targets(y.clamp(min=1), LIKE)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([None, "a"], TypeError, "of one kind"),
        ([0.5, 1.0], ValueError, "fractions"),
        ([float("nan"), 1.0], ValueError, "finite"),
        ([], ValueError, "empty"),
        ([1j, 2j], TypeError, "integer class labels"),
    ],
)
def test_what_is_no_label_raises(labels, error, message):
    with pytest.raises(error, match=message):
        read(labels, whole=True)


def test_classes_must_differ_and_be_two_for_bernoulli():
    with pytest.raises(ValueError, match="all different"):
        Classes([1, 1])
    with pytest.raises(ValueError, match="got 3 classes"):
        Bernoulli().targets([0, 1, 2, 0, 1, 2], LIKE)
    with pytest.raises(TypeError, match="integers, booleans or strings"):
        Classes([1.5, 2.5])

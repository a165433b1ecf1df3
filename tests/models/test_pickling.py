"""Tests of `bayesgen.models.reporting`: posteriors and evidences can be copied and pickled."""

import copy
import io
import pickle
from dataclasses import fields

import joblib
import pytest
import torch

from tests.models.fitted import MAKERS, RBF, gp, linear, posterior, predicted, same


def pickled(thing):
    return pickle.loads(pickle.dumps(thing))


def by_torch(thing):
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def by_joblib(thing):
    file = io.BytesIO()
    joblib.dump(thing, file)
    file.seek(0)
    return joblib.load(file)


WAYS = {"pickle": pickled, "copy": copy.deepcopy, "torch": by_torch, "joblib": by_joblib}


def numbers(evidence):
    return {field.name: getattr(evidence, field.name) for field in fields(evidence)}


@pytest.mark.parametrize("name", MAKERS)
def test_a_copy_predicts_the_same(name):
    found = posterior(name)
    copies = [pickled(found), copy.deepcopy(found)]
    want = predicted(found)  # which computes what is made when first needed
    copies += [way(found) for way in WAYS.values()]
    for other in copies:
        assert same(predicted(other), want)
        assert repr(other) == repr(found)
        assert str(other.provenance) == str(found.provenance)


@pytest.mark.parametrize(
    "make",
    [
        lambda: gp(lambda a, b: (-torch.cdist(a, b)).exp()),
        lambda: gp(RBF(), mean=lambda x: x[:, 0]),
        lambda: linear(lambda x: torch.cat([x, x**2], 1)),
        lambda: linear(prior_variance=lambda j: 1.0 / (1 + j)),
    ],
    ids=["kernel", "mean", "basis", "prior variance"],
)
def test_functions_without_a_name_are_copied_and_not_pickled(make):
    found = make()
    assert same(predicted(copy.deepcopy(found)), predicted(found))
    with pytest.raises((AttributeError, pickle.PicklingError), match="pickle|local object"):
        pickled(found)  # Python pickles functions by name; `save` and `bg.load` take them again


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["gp", "gp of tasks", "batch", "network", "deep kernel"])
def test_a_copy_of_an_evidence_is_equal(name, way):
    found = posterior(name).evidence
    one, other = numbers(found), numbers(WAYS[way](found))
    assert repr(WAYS[way](found)) == repr(found)
    for key, value in one.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, other[key])
        else:
            assert value == other[key]

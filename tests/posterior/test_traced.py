"""Tests of `bayesgen.posterior.traced`."""

import copy
import pickle

import gpytorch
import pytest
import torch

import bayesgen as bg
from bayesgen.posterior.traced import chose, pay, tuned
from bayesgen.provenance import Payment
from tests.helpers import rbf_kernel

X = torch.randn(30, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
Y = torch.sin(X[:, 0]) + 0.1 * X[:, 1]


@pytest.fixture
def learnt():
    return bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit(X, Y)


@pytest.fixture
def stated():
    return bg.GaussianProcess(rbf_kernel(0.7), 0.3, hyperparameters="fixed").fit(X, Y)


def test_a_fit_knows_what_it_has_learnt(learnt, stated):
    assert learnt.provenance.unpaid == {"kernel", "scale", "noise"}
    assert stated.provenance.unpaid == frozenset()
    assert learnt.provenance.data.shared(stated.provenance.data) == 30
    assert learnt.provenance is learnt.provenance


def test_posteriors_at_other_values_keep_what_was_learnt(learnt):
    assert learnt.at(lengthscale=2.0).provenance.unpaid == {"scale", "noise"}
    assert learnt.at(scale=2.0, noise=0.1).provenance.unpaid == {"kernel"}
    again = learnt.at(lengthscale=2.0).at(lengthscale=float(learnt.lengthscale))
    assert "kernel" in again.provenance.unpaid


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_copies_keep_their_provenance(learnt, copied):
    choice = Payment("one of two", 0.7)
    pay(learnt, {"kernel"}, choice)
    again = copied(learnt)
    assert again.provenance.unpaid == {"scale", "noise"}
    assert again.provenance.choices == (choice,)
    assert choice != Payment("one of two", 0.7)


def test_what_is_paid_for_is_not_learnt_and_a_new_choice_replaces_it(learnt):
    pay(learnt, {"kernel", "scale"}, Payment("one of two", 0.7))
    pay(learnt, {"kernel"}, Payment("one of three", 1.1))
    found = learnt.provenance
    assert found.unpaid == {"noise"}
    assert {c.nats for c in found.choices} == {0.7, 1.1}
    assert len(learnt.at(lengthscale=9.0).provenance.choices) == 1


def test_a_paid_kernel_stays_paid_in_another_model(learnt):
    paid = learnt.at(lengthscale=2.0)
    choice = Payment("one of two", 0.7)
    pay(paid, {"kernel"}, choice)
    model = bg.GaussianProcess(paid.kernels[0], 0.3, hyperparameters="fixed")
    other = model.fit(X, Y)
    for posterior in (other, other.at(lengthscale=other.lengthscale), other.at(noise=0.5)):
        assert posterior.provenance.unpaid == frozenset()
        assert posterior.provenance.choices == (choice,)


def test_tuned_and_chosen_values_are_learnt(stated):
    moved = tuned(stated.at(scale=1.23456789), frozenset({"scale"}))
    assert moved.provenance.unpaid == {"scale"}
    assert stated.at(scale=1.23456789).provenance.unpaid == {"scale"}
    chose(stated, [0.87654321, 3, "a word", True], "a search")
    assert stated.at(lengthscale=0.87654321).provenance.unpaid == {"kernel"}
    line = bg.Polynomial(3, 1.0, 0.3, hyperparameters="fixed").fit(X, Y)
    assert line.provenance.unpaid == frozenset()
    chose(line, [3], "a search")
    assert line.provenance.unpaid == {"order"}
    assert "by a search" in str(line.provenance)


def test_values_that_were_learnt_later_do_not_count(stated):
    bg.GaussianProcess(rbf_kernel(0.7), hyperparameters=("scale",), noise=0.3).fit(X, Y)
    own = bg.GaussianProcess(rbf_kernel(1.87654321), 0.3, hyperparameters="fixed").fit(X, Y)
    chose(stated, [1.87654321], "a later search")
    assert own.provenance.unpaid == frozenset()
    model = bg.GaussianProcess(rbf_kernel(1.87654321), 0.3, hyperparameters="fixed")
    assert model.fit(X, Y).provenance.unpaid == {"kernel"}

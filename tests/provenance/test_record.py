"""Tests of `bayesgen.provenance.record`."""

import copy
import pickle

import pytest
import torch
from torch import nn

import bayesgen as bg
from bayesgen import provenance
from bayesgen.provenance import Data, contents, learnt, now, record, sources

X = torch.randn(30, 2, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
Y = torch.sign(X[:, 0])


@pytest.fixture
def empty(monkeypatch):
    monkeypatch.setattr(record, "_RECORD", record._Record())


def number(value):
    return torch.tensor([value], dtype=torch.float64)


def test_a_learnt_number_is_found_on_shared_data_and_only_later(empty):
    before = now()
    learnt({"kernel": (number(1.23456789), None)}, Data(X, Y), "a fit")
    (found,) = sources({"scale": [1.23456789]}, Data(X[:10], Y[:10]), now())
    assert (found.what, found.how) == ("scale", "a fit")
    assert sources({"scale": [1.23456789]}, Data(X + 1, Y), now()) == ()
    assert sources({"scale": [1.23456789]}, Data(X, Y), before) == ()
    assert sources({"scale": [2.0]}, Data(X, Y), now()) == ()


def test_numbers_that_are_as_they_were_stated_are_not_recorded(empty):
    learnt({"scale": (number(1.2345678), number(1.2345678))}, Data(X, Y))
    assert sources({"scale": [1.2345678]}, Data(X, Y), now()) == ()


def test_each_data_set_of_a_batch_has_its_own_numbers(empty):
    values = torch.tensor([[1.2345678], [2.3456789]], dtype=torch.float64)
    learnt({"kernel": (values, None)}, [Data(X, Y), Data(X + 1, Y)])
    assert sources({"kernel": [2.3456789]}, Data(X, Y), now()) == ()
    assert len(sources({"kernel": [2.3456789]}, Data(X + 1, Y), now())) == 1


def test_orders_are_found_by_the_kind_of_basis(empty):
    name = f"{provenance.ORDER}Polynomial"
    learnt({name: (torch.tensor([[3]]), None)}, Data(X, Y))
    assert provenance.order_sources(3, "Polynomial", Data(X, Y), now())
    assert not provenance.order_sources(3, "Fourier", Data(X, Y), now())
    assert not provenance.order_sources(4, "Polynomial", Data(X, Y), now())
    assert sources({"features": [3]}, Data(X, Y), now()) == ()


def test_the_record_hashes_its_data_and_then_drops_the_oldest(empty, monkeypatch):
    monkeypatch.setattr(record, "_HELD", 200)
    for k in range(20):
        learnt({"kernel": (number(1.2345 + k), None)}, Data(X, Y))
        assert record._RECORD._size <= 200
    assert sources({"kernel": [1.2345]}, Data(X, Y), now()) == ()
    assert len(sources({"kernel": [20.2345]}, Data(X, Y), now())) == 1


def test_unknown_data_count_as_shared(empty):
    learnt({"kernel": (number(1.2345678), None)}, Data(X, Y))
    assert len(sources({"kernel": [1.2345678]}, None, now())) == 1


def net():
    return bg.networks.MLP(2, (5,), 1, activation="tanh").double()


@pytest.mark.parametrize("how", ["train", "fit_map", "train_ensemble"])
def test_training_marks_and_records_networks(empty, how):
    y, made = Y[:, None], net()
    if how == "train":
        bg.train(made, X, y, "gaussian", epochs=1)
    elif how == "fit_map":
        bg.fit_map(made, X, y, "gaussian", prior_precision=1.0, noise=0.1, steps=2)
    else:
        bg.train_ensemble(iter([net(), made]), X, torch.stack([y, -y]), "gaussian", epochs=1)
    assert sources({"mean": [made]}, Data(X, Y), now())[0].how == f"bayesgen.{how}"
    loaded = net()
    loaded.load_state_dict(made.state_dict())
    assert sources({"mean": [loaded]}, Data(X, Y), now())
    assert sources({"mean": [made]}, Data(X + 1, Y), now()) == ()
    assert sources({"mean": [net()]}, Data(X, Y), now()) == ()


def test_weights_are_marked_after_an_exception_and_not_where_nothing_was_trained(empty):
    made = net()

    @provenance.training("a loop")
    def loop(model, x, y):
        if y is None:
            raise ValueError("no targets")
        with torch.no_grad():
            model[0].weight.add_(1.0)
        raise RuntimeError("diverged")

    made = nn.Sequential(nn.Linear(2, 4))
    with pytest.raises(ValueError, match="no targets"):
        loop(made, X, None)
    assert contents.contents([made]).marks == []
    with pytest.raises(RuntimeError, match="diverged"):
        loop(made, X, Y)
    assert sources({"mean": [made]}, Data(X, Y), now())[0].how == "a loop"
    with pytest.raises(TypeError):
        loop(made)


def test_weights_that_are_trained_further_come_from_both_data_sets(empty):
    made, targets = net(), Y[:, None]
    other = X + 1
    for x in (X, other, other):
        bg.train(made, x, targets, "gaussian", epochs=1)
    for data in (Data(X, Y), Data(other, Y)):
        assert len(sources({"mean": [made]}, data, now())) == 1
        loaded = net()
        loaded.load_state_dict(made.state_dict())
        assert len(sources({"mean": [loaded]}, data, now())) == 1
    assert sources({"mean": [made]}, Data(X + 2, -Y.roll(1)), now()) == ()
    record._RECORD = record._Record()
    for data in (Data(X, Y), Data(other, Y)):
        assert len(sources({"mean": [pickle.loads(pickle.dumps(made))]}, data, now())) == 1


def test_a_frozen_part_stays_stated_and_the_trained_part_counts(empty):
    backbone, head = nn.Linear(2, 5), nn.Linear(5, 1)
    backbone.requires_grad_(False)
    made = nn.Sequential(backbone, nn.Tanh(), head).double()
    bg.train(made, X, Y[:, None], "gaussian", epochs=1)
    data = Data(X, Y)
    assert sources({"kernel": [backbone]}, data, now()) == ()
    assert sources({"kernel": [copy.deepcopy(made[:2])]}, data, now()) == ()
    assert sources({"kernel": [head]}, data, now())
    assert sources({"kernel": [made]}, data, now())
    with torch.no_grad():
        made[2].weight.copy_(torch.arange(5.0))
        made[2].bias.fill_(0.0)
    assert sources({"kernel": [made]}, data, now()) == ()


def test_stacked_parameters_of_an_ensemble_are_found(empty):
    nets = [net() for _ in range(3)]
    targets = torch.stack([Y, -Y, Y.roll(1)])[..., None]
    bg.train_ensemble(nets, X, targets, "gaussian", epochs=1)
    stacked, _ = torch.func.stack_module_state(nets)
    assert sources({"mean": [stacked]}, Data(X, Y), now())


def test_small_tensors_of_a_trained_network_are_recorded_as_numbers(empty):
    made = nn.Linear(2, 1).double()
    bg.train(made, X, Y[:, None], "gaussian", epochs=1)
    again = nn.Linear(2, 1).double()
    again.load_state_dict(made.state_dict())
    assert sources({"mean": [again]}, Data(X, Y), now())


def test_entries_of_a_record_are_put_back_once(empty):
    x, y = torch.rand(9, 2, dtype=torch.float64), torch.rand(9, dtype=torch.float64)
    data, given = provenance.Data(x, y), {"noise": [0.123456789]}
    assert provenance.entries(given, data) == []
    provenance.learnt({"noise": (torch.tensor([0.123456789]).double(), None)}, data, "a test")
    found = provenance.entries(given, data)
    assert [learning.how for learning in found] == ["a test"]
    provenance.restore(found)
    assert provenance.entries(given, data) == found
    with pytest.raises(TypeError, match="what fits have learnt"):
        provenance.restore([3])

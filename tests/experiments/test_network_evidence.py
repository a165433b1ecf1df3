"""Tests of `bayesgen.experiments.network_evidence`."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import bayesgen as bg
from bayesgen.commands.corruption import EVIDENCES as OFFERED
from bayesgen.experiments import network_evidence
from bayesgen.experiments.corruption_models import ESTIMATES, EVIDENCES, MODELS
from bayesgen.experiments.networks import NETWORKS

LEVELS = [0.0, 1.0]


@pytest.fixture
def small(monkeypatch):
    """The study's MLP with fewer hidden units and a short training, and a code of one network."""
    made = replace(
        NETWORKS["mlp"],
        make=lambda data: bg.networks.MLP(data.x_train.shape[1], (16,), data.num_classes),
        settings={"epochs": 30, "optimiser": "adam", "learning_rate": 0.02},
    )
    monkeypatch.setitem(NETWORKS, "mlp", made)
    code = {"prior_precision": 1.0, "members": 1}
    monkeypatch.setitem(network_evidence._CODES, "mlp", code)


def test_estimates_of_one_network_stand_side_by_side(small):
    kinds = ["tangent", "prequential"]
    result = bg.experiments.corruption_models(
        "digits", ["mlp"], evidence=kinds, train=60, test=20, levels=LEVELS
    )
    assert list(result.model.values) == ["mlp, tangent", "mlp, prequential"]
    assert (result.log_marginal_likelihood.diff("level") < 0).all()
    code = result.sel(model="mlp, prequential")
    assert np.isnan(code.fit).all()
    assert np.isfinite(code.train_error).all()
    assert not result.excludes.values.any()
    assert "evidence=['tangent', 'prequential']" in result.attrs["command"]
    assert len(bg.experiments.corruption_models.plot(result).axes) == 3


def test_a_prequential_cell_is_the_code_of_the_architecture(small):
    data = bg.data.load("digits", train=40, test=20)
    cell = ESTIMATES["mlp", "prequential"].run(data, data.y_train, 3)
    code = bg.prequential(
        bg.networks.MLP(64, (16,), 10).double(),
        data.x_train,
        data.y_train,
        orders=1,
        members=1,
        seed=3,
    )
    assert cell.evidence.value == code.log_evidence
    assert cell.predicted.shape == (20, 10)


def test_a_tangent_cell_does_not_depend_on_training(small):
    data = bg.data.load("digits", train=40, test=20)
    cell = network_evidence.tangent("mlp", data, data.y_train, 0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = bg.networks.MLP(64, (16,), 10).double()
    posterior = bg.Laplace(net, mode="tangent").fit(data.x_train, data.y_train)
    wanted = float(posterior.evidence.log_marginal_likelihood)
    assert float(cell.evidence.log_marginal_likelihood) == pytest.approx(wanted, abs=1e-6)
    assert cell.evidence.complexity_excludes == ()


@pytest.mark.slow
def test_an_annealed_cell_has_parts_and_predictions(small):
    data = bg.data.load("digits", train=30, test=20)
    cell = network_evidence.annealed("mlp", data, data.y_train, 0)
    e = cell.evidence
    assert e.value == pytest.approx(e.fit - e.complexity)
    assert e.value < 0 < e.complexity
    assert 1 < e.error < 50
    assert not math.isnan(e.error)
    torch.testing.assert_close(cell.predicted.sum(1), torch.ones(20).double())


def test_the_code_of_a_residual_network():
    data = bg.data.restrict(bg.data.load("digits", train=120, test=20), (0, 1))
    quick = replace(NETWORKS["resnet"], settings=NETWORKS["resnet"].settings | {"epochs": 2})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "resnet", quick)
        cell = network_evidence.code_length("resnet", data, data.y_train, 0)
    assert math.isfinite(cell.evidence.value)
    assert cell.fitted.shape == (len(data.y_train), 2)


def test_estimates_belong_to_models_and_to_the_command():
    assert OFFERED == EVIDENCES
    assert {name for name, _ in ESTIMATES} <= set(MODELS)
    says = [model.says for key, model in ESTIMATES.items() if key[1] != "laplace"]
    assert len(set(says)) == len(says)  # a store of results tells them apart by these words


@pytest.mark.parametrize(
    ("models", "evidence", "message"),
    [
        (["gp", "mlp"], "prequential", "evidence must be one that every model has: 'prequential'"),
        (["resnet"], "annealed", "is an estimate for mlp, and not for 'resnet'"),
        (["mlp"], "anealed", "did you mean 'annealed'"),
        (["mlp"], [], "evidence must be one or more different names"),
    ],
)
def test_estimates_that_a_model_does_not_have_are_refused(models, evidence, message):
    with pytest.raises(ValueError, match=message):
        bg.experiments.corruption_models("digits", models, evidence=evidence)

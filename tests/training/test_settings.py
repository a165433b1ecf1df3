"""Tests of `bayesgen.training.settings`."""

import math

import pytest
import torch
from torch import nn

import bayesgen as bg
from bayesgen.training.settings import Settings
from tests.training.problems import mlp


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"net": nn.Flatten()}, ValueError, "trainable parameters"),
        ({"net": "net"}, TypeError, "torch.nn.Module"),
        ({"epochs": 0}, ValueError, "epochs must be"),
        ({"optimiser": "lbfgs"}, ValueError, "optimiser must be one of"),
        ({"schedule": "step"}, ValueError, "schedule must be one of"),
        ({"arithmetic": "fp8"}, ValueError, "arithmetic must be one of"),
        ({"prior_precision": -1.0}, ValueError, "prior_precision must be"),
        ({"prior_precision": [1.0, 2.0, 3.0]}, ValueError, "one a layer"),
        ({"keep": "best"}, ValueError, "evidence_every"),
        ({"y": torch.full((120,), 10)}, ValueError, "labels|y must"),
        ({"net": bg.networks.MLP(64, (4,), 1)}, ValueError, "at least 2"),
    ],
)
def test_invalid_settings_raise(digits, change, error, message):
    given = {"net": mlp(), "x": digits.x_train, "y": digits.y_train, "epochs": 1} | change
    with pytest.raises(error, match=message):
        bg.train(given.pop("net"), given.pop("x"), given.pop("y"), **given)


def settings(**change):
    given = {
        "epochs": 10, "batch": 4, "optimiser": "sgd", "learning_rate": None, "momentum": 0.9,
        "schedule": "cosine", "arithmetic": "native", "seed": 0,
    }  # fmt: skip
    return Settings(**given | change)


def test_learning_rate_follows_the_schedule():
    cosine = settings()
    assert cosine.rate(0) == 0.1
    assert cosine.rate(5) == pytest.approx(0.05)
    assert cosine.rate(10) == pytest.approx(0)
    assert cosine.rate(2) == pytest.approx(0.05 * (1 + math.cos(math.pi / 5)))
    assert settings(schedule="constant", learning_rate=0.3).rate(7) == 0.3
    assert settings(optimiser="adam").rate(0) == 1e-3


def test_optimiser_is_made_with_its_settings():
    parameter = nn.Parameter(torch.zeros(2))
    sgd = settings(learning_rate=0.2, momentum=0.5).make([{"params": [parameter]}])
    assert isinstance(sgd, torch.optim.SGD)
    assert (sgd.defaults["lr"], sgd.defaults["momentum"]) == (0.2, 0.5)
    assert isinstance(settings(optimiser="adam").make([parameter]), torch.optim.Adam)


def test_order_visits_every_observation_once_and_follows_seed_and_epoch():
    made = settings()
    steps = list(made.order(3, 10))
    assert [len(step) for step in steps] == [4, 4, 2]
    assert len(steps) == made.steps(10)
    assert sorted(torch.cat(steps).tolist()) == list(range(10))
    assert torch.equal(torch.cat(steps), torch.cat(list(settings().order(3, 10))))
    for other in (made.order(4, 10), settings(seed=1).order(3, 10)):
        assert not torch.equal(torch.cat(steps), torch.cat(list(other)))
    assert len(list(settings(batch=None).order(0, 10))) == settings(batch=None).steps(10) == 1


def test_a_short_last_step_is_joined_to_the_one_before():
    made = settings()
    sizes = [len(step) for step in made.order(0, 9, 2)]
    assert sizes == [4, 5]
    assert made.steps(9, 2) == 2
    assert made.last(9) == 1
    assert torch.equal(torch.cat(list(made.order(0, 9, 2))), torch.cat(list(made.order(0, 9))))
    assert [len(step) for step in made.order(0, 10, 2)] == [4, 4, 2]
    assert [len(step) for step in made.order(0, 1, 2)] == [1]

"""Tests of `bayesgen.training.settings`."""

import pytest
import torch
from torch import nn

import bayesgen as bg
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

"""Tests of `bayesgen.models.linear.presets`."""

import math

import pytest
import torch

import bayesgen as bg
from tests.models.linear.problems import data

F64 = torch.float64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: bg.LinearModel(None, -1.0), "prior_variance must be positive"),
        (lambda x, y: bg.LinearModel(None, [1.0, math.nan]), "got nan at index 1"),
        (lambda x, y: bg.LinearModel(None, [1.0, -2.0]), "got -2.0 at index 1"),
        (lambda x, y: bg.LinearModel(None, [0.0, 0.0]), "positive for some feature"),
        (lambda x, y: bg.Polynomial(3, [1.0, 1.0]).fit(x, y), "each of the d = 4 features"),
        (lambda x, y: bg.Polynomial(-1), "degree must be an integer of at least 0"),
        (lambda x, y: bg.Polynomial(3, noise=1.0).fit(1e200 * x, y), "order 2 overflows"),
        (lambda x, y: bg.Polynomial(3, kind="legendre").fit(0 * x, y), "column 0 of x is constant"),
        (lambda x, y: bg.Polynomial(3, hyperparameters="fixed").fit(x, y), "noise must be given"),
        (lambda x, y: bg.Polynomial(3, hyperparameters=["rate"]), "got rate"),
        (lambda x, y: bg.priors.geometric(0.0), "rate must be positive"),
        (lambda x, y: bg.priors.power(math.inf), "exponent must be finite"),
        (lambda x, y: bg.Polynomial(200).fit(torch.ones(9, 9, dtype=F64), y), "interactions=False"),
    ],
)
def test_invalid_arguments_raise(call, message):
    with pytest.raises(ValueError, match=message):
        call(*data(9))

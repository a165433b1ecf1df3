"""Tests of `bayesgen.pacbayes.validation`."""

import math

import pytest
import torch

from bayesgen.pacbayes import validation


def test_valid_arguments_are_returned_in_float64():
    values = validation.risk([0.0, 0.5, 1.0])
    assert values.dtype == torch.float64
    assert values.tolist() == [0.0, 0.5, 1.0]
    assert validation.risk(3.0, (2.0, 4.0)).item() == 3.0
    assert validation.nats("kl", 2).item() == 2.0
    assert validation.log_delta(0.05) == math.log(0.05)
    assert validation.interval((-1.0, 2.0)) == (-1.0, 2.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: validation.risk(1.5), r"risk must lie in \[0, 1\]"),
        (lambda: validation.risk(math.nan), "risk must lie in"),
        (lambda: validation.risk([0.5, -0.1], name="error"), "error must lie in"),
        (lambda: validation.nats("kl", -1.0), "kl must be finite and at least 0"),
        (lambda: validation.nats("kl", math.inf), "kl must be finite"),
        (lambda: validation.log_delta(0.0), r"delta must lie in \(0, 1\)"),
        (lambda: validation.log_delta(1.0), r"delta must lie in \(0, 1\)"),
        (lambda: validation.interval((1.0, 1.0)), "a < b"),
        (lambda: validation.interval((0.0, math.inf)), "both finite"),
    ],
)
def test_invalid_arguments_raise(call, message):
    with pytest.raises(ValueError, match=message):
        call()

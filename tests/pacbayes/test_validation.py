"""Tests of `bayesgen.pacbayes.validation`."""

import math

import pytest
import torch

from bayesgen import pacbayes
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
        (lambda: validation.interval(3), r"loss_range must be \(a, b\) .* got 3"),
        (lambda: validation.interval(("a", "b"), "clip"), r"clip must be \(a, b\)"),
        (lambda: pacbayes.catoni(0.1, 1.0, 10, loss_range=3), r"loss_range must be \(a, b\)"),
        (lambda: pacbayes.c_bound(1.2, 0.1), r"gibbs_risk must lie in \[0, 1\]"),
        (lambda: pacbayes.subgamma(0.1, 1.0, 10, 1.0, 1.5), r"c must lie in \[0, 1\)"),
    ],
)
def test_invalid_arguments_raise(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: pacbayes.upper_risk("a", 1), "risk"),
        (lambda: pacbayes.upper_risk(0.1, None), "budget"),
        (lambda: pacbayes.maurer(None, 1, 3), "risk"),
        (lambda: pacbayes.maurer(0.1, "a", 3), "kl"),
        (lambda: pacbayes.subgamma(0.1, 1.0, 10, 1.0, "a"), "c"),
        (lambda: pacbayes.subgamma("a", 1.0, 10, 1.0, 0.5), "risk"),
        (lambda: pacbayes.occam(0.1, "a", 10), "log_prior"),
        (lambda: pacbayes.solomonoff(None), "code_length_bits"),
        (lambda: pacbayes.thiemann(0.1, 1.0, 10, lam="a"), "lam"),
        (lambda: pacbayes.c_bound("a", 0.1), "gibbs_risk"),
        (lambda: validation.risk(1j), "risk"),
    ],
)
def test_what_is_no_number_raises(call, name):
    with pytest.raises(TypeError, match=f"^{name} must (be|hold) "):
        call()


@pytest.mark.parametrize(
    "name", ["maurer", "mcallester", "quadratic", "thiemann", "catoni", "catoni_union", "alquier"]
)
def test_shapes_that_do_not_broadcast_raise(name):
    three, two = torch.full((3,), 0.1), torch.full((2,), 1.0)
    with pytest.raises(ValueError, match=r"risk and kl must have shapes .* \(3,\) and \(2,\)"):
        getattr(pacbayes, name)(three, two, 10)
    assert getattr(pacbayes, name)(three[:, None], two, 10).shape == (3, 2)
    with pytest.raises(ValueError, match="risk and budget must have shapes"):
        pacbayes.upper_risk(three, two)


def test_the_c_bound_takes_floats():
    want = pacbayes.c_bound(torch.tensor(0.3).double(), torch.tensor(0.12).double())
    assert float(pacbayes.c_bound(0.3, 0.12)) == pytest.approx(float(want), abs=1e-7)

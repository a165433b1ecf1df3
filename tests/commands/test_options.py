"""Tests of `bayesgen.commands.options`."""

import pytest
import torch

from bayesgen import data
from bayesgen.commands.options import (
    on_device,
    parse_groups,
    parse_levels,
    parse_models,
    parse_sizes,
)


def test_groups_are_parsed_and_merged():
    assert parse_groups("0,1/2") == [[0, 1], [2]]
    digits = data.load("digits")
    two = data.merge(digits, ([0, 2, 4, 6, 8], [1, 3, 5, 7, 9]))
    assert torch.equal(two.y_train, digits.y_train % 2)
    with pytest.raises(ValueError, match="two or more different labels"):
        data.merge(digits, ([0, 1], [1, 2]))


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("0:1:0.5", [0.0, 0.5, 1.0]),
        ("0.1:0.35:0.1", [0.1, 0.2, 0.3]),
        ("0.3:0.3:1", [0.3]),
        ("0,0.25,1", [0.0, 0.25, 1.0]),
    ],
)
def test_levels_are_parsed(text, levels):
    assert parse_levels(text) == pytest.approx(levels, abs=1e-12)


@pytest.mark.parametrize("text", ["", "a", "0:1", "1:0:0.1", "0:1:0", "0:2:0.5", "0:1:0.1:2"])
def test_invalid_levels_raise(text):
    with pytest.raises(ValueError, match="levels must be START:STOP:STEP"):
        parse_levels(text)


def test_sizes_are_parsed_in_every_spelling():
    want = {"n": 50_000, "d": 3, "outputs": 2}
    assert parse_sizes(["n=50_000", "d=3", "outputs=2"]) == want
    assert parse_sizes(["n=50000,d=3,outputs=2"]) == want
    assert parse_sizes(["n=50000 d=3", "outputs=2 tasks=4"]) == {**want, "tasks": 4}


@pytest.mark.parametrize("parts", [["n=1"], ["n=1", "d=1", "outputs=a"], ["n=1 d=1 outputs=1 k=1"]])
def test_invalid_sizes_raise(parts):
    with pytest.raises(ValueError, match="plan must be n=… d=… outputs=…"):
        parse_sizes(parts)


def test_devices_that_are_not_there_raise(monkeypatch):
    assert on_device("cpu", "float64") == torch.device("cpu")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="cuda is not available"):
        on_device("cuda", "float64")
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    with pytest.raises(ValueError, match="dtype must be float32 on mps"):
        on_device("mps", "float64")
    with pytest.raises(ValueError, match="device must be one of"):
        on_device("tpu", "float64")


def test_models_are_parsed_in_order_and_null_is_left_out():
    found = parse_models("polynomial:3, Fourier:4:decaying,gp:rbf,gp:matern52:ard, null, linear")
    assert found == [
        ("polynomial", 3, ""),
        ("fourier", 4, "decaying"),
        ("gp", "rbf", ""),
        ("gp", "matern52", "ard"),
        ("linear", "", ""),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("polynomal:3", "got 'polynomal:3'; did you mean 'polynomial'?"),
        ("gp:matern", "the kernel of gp must be one of rbf"),
        ("polynomial:-1", "degree of polynomial must be in 0..500, got '-1'"),
        ("fourier:x", "order of fourier must be in"),
        ("polynomial:3:bset", "got 'bset'; did you mean 'best'?"),
        ("gp:rbf,gp:rbf", "'gp:rbf' twice"),
        ("null", "a model beside null"),
        ("", "got ''"),
        ("linear:2", "got 'linear:2'"),
        ("__import__('os')", "models must be a list"),
    ],
)
def test_invalid_models_raise(text, message):
    with pytest.raises(ValueError, match="models") as error:
        parse_models(text)
    assert message in str(error.value)

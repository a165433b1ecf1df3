"""Tests of `bayesgen.pacbayes.compression.settings`."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from bayesgen.pacbayes.compression import architecture
from bayesgen.pacbayes.compression.container import unpacked
from bayesgen.pacbayes.compression.settings import CodeSettings

GIVEN = {"dimension": 20, "levels": 5, "projection": "sparse", "entropy": 0.0, "seed": 3}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"dimension": 0}, ValueError, "dimension must be an integer"),
        ({"dimension": 2.5}, ValueError, "dimension must be an integer"),
        ({"dimension": 2**24 + 1}, ValueError, "dimension must be at most 16,777,216"),
        ({"levels": 1}, ValueError, r"levels must lie in 2\.\.255"),
        ({"levels": 256, "dimension": 999}, ValueError, r"levels must lie in 2\.\.255"),
        ({"levels": 21}, ValueError, "levels must be at most the dimension, 20, got 21"),
        ({"projection": "dense"}, ValueError, "projection must be one of"),
        ({"entropy": -0.1}, ValueError, "entropy must be finite and at least 0"),
        ({"entropy": math.inf}, ValueError, "entropy must be finite and at least 0"),
        ({"entropy": None}, TypeError, "entropy must be a number"),
        ({"seed": -1}, ValueError, "seed must be an integer of at least 0"),
        ({"seed": 2**32}, ValueError, "seed must be at most 4294967295"),
    ],
)
def test_settings_out_of_range_raise(change, error, message):
    with pytest.raises(error, match=message):
        CodeSettings(**{**GIVEN, **change})


def test_ends_of_the_ranges_are_accepted():
    CodeSettings(**{**GIVEN, "levels": 255, "dimension": 255, "seed": 2**32 - 1})
    CodeSettings(**{**GIVEN, "levels": 2, "dimension": 2, "seed": 0})


def test_numbers_of_numpy_and_torch_are_those_of_python():
    other = CodeSettings(np.int64(20), torch.tensor(5), "sparse", np.float64(0), np.uint32(3))
    assert repr(other) == repr(CodeSettings(**GIVEN))


def test_dimension_is_checked_against_the_network():
    net = nn.Linear(4, 3)
    with pytest.raises(ValueError, match="dimension must be at most the net's 15 parameters"):
        CodeSettings(**GIVEN).check(net)
    CodeSettings(**{**GIVEN, "dimension": 15}).check(net)
    whole = {**GIVEN, "projection": "identity"}
    CodeSettings(**{**whole, "dimension": 15}).check(net)
    with pytest.raises(ValueError, match="dimension must be the number of weights, 15"):
        CodeSettings(**{**whole, "dimension": 14}).check(net)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_code_holds_levels_in_float16_and_symbols_of_these(dtype):
    net, how = nn.Linear(4, 6).to(dtype), CodeSettings(**GIVEN)
    z = torch.randn(20, dtype=dtype)
    levels = torch.tensor([-1.0001, -0.3, 0.0, 0.3, 1.0001], dtype=dtype)
    code = how.packed(net, z, levels)
    found = unpacked(code, architecture.description(net, "sparse"), 30)
    assert found.seed == 3
    assert torch.equal(found.codebook, levels.half())
    nearest = (z[:, None] - levels.half().to(dtype)).abs().argmin(1)
    assert torch.equal(found.symbols, nearest)


@pytest.mark.parametrize("bad", [math.nan, 1e5])
def test_levels_beyond_float16_raise(bad):
    levels = torch.tensor([0.0, 1.0, 2.0, 3.0, bad])
    with pytest.raises(ValueError, match="learning_rate must be lower: a level"):
        CodeSettings(**GIVEN).packed(nn.Linear(4, 6), torch.randn(20), levels)

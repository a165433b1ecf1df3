"""Tests of `bayesgen.provenance.contents` and `bayesgen.provenance.code`."""

import copy
import functools
import pickle
import types
from decimal import Decimal

import gpytorch
import numpy as np
import pytest
import torch
from torch import nn

from bayesgen.provenance import Data, Source, coincide, mark
from bayesgen.provenance.contents import contents, digest, keys, wanted

VALUE = 1.234567890123
GLOBAL = torch.tensor(VALUE, dtype=torch.float64)
exp = mean = pow = Decimal(VALUE)  # names of functions of torch and methods of tensors
SETTINGS = types.ModuleType("settings")
SETTINGS.value, SETTINGS.other = VALUE, 9.87654321
SETTINGS.part = types.ModuleType("settings.part")
SETTINGS.part.value = VALUE


class Holder:
    def __init__(self, value):
        self.value = value

    def call(self, x):
        return self.value * x


class InClass:
    value = VALUE


class InMethod(nn.Module):
    def forward(self, x):
        return GLOBAL * x


class InOperator:
    def __matmul__(self, x):
        return GLOBAL * x


class InSlot:
    __slots__ = ("__value", "unset")

    def __init__(self):
        self.__value = VALUE


class InStaticMethod:
    @staticmethod
    def call(x):
        return VALUE * x


def _defined_within(x):
    def inner(z):
        return GLOBAL * z

    return inner(x)


def _wrapped(function):
    @functools.wraps(function)
    def call(*args):
        return function(*args)

    return call


def _in_closure(value):
    return lambda x: value * x


def _in_default(x, value=VALUE):
    return value * x


@pytest.mark.parametrize(
    "thing",
    [
        VALUE,
        np.float64(VALUE),
        GLOBAL,
        np.array([0.5, VALUE]),
        [{"a": (VALUE,)}],
        _in_closure(VALUE),
        _in_closure(Holder(GLOBAL)),
        _in_default,
        functools.partial(max, VALUE),
        Holder(VALUE).call,
        lambda x: GLOBAL * x,
        lambda x: 1.234567890123 * x,
        lambda x: (lambda z: GLOBAL * z)(x),
        lambda x: [GLOBAL * z for z in x],
        lambda x: sum(GLOBAL * z for z in x),
        lambda x: max((1.234567890123, 2.0)) * x,
        _defined_within,
        _wrapped(lambda x: GLOBAL * x),
        InClass,
        InClass(),
        InMethod(),
        InOperator(),
        InSlot(),
        InStaticMethod.call,
        InStaticMethod(),
        lambda x: InClass.value * x,
        lambda x: SETTINGS.value * x,
        lambda x: SETTINGS.part.value * x,
        lambda x: getattr(SETTINGS, "value") * x,  # noqa: B009
        torch.distributions.Normal(torch.zeros(()), GLOBAL),
        torch.distributions.AffineTransform(0.0, VALUE),
        nn.LeakyReLU(VALUE),
        Decimal(VALUE),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_numbers_are_found_in_whatever_refers_to_them(thing):
    assert any(abs(v - VALUE) < 1e-12 for v in contents([thing]).numbers)


@pytest.mark.parametrize(
    "thing",
    [
        lambda x: torch.exp(x),
        lambda x: x.mean(-1).pow(2),
        lambda x: np.exp(x) + torch.pow(x, 2),
        lambda exp: exp,
        lambda x: SETTINGS.other * x,
    ],
    ids=["function", "method", "numpy", "argument", "another value of a module"],
)
def test_names_of_attributes_and_arguments_are_no_global_variables(thing):
    assert not any(abs(v - VALUE) < 1e-3 for v in contents([thing]).numbers)


def test_parameters_without_a_shape_hold_nothing():
    found = contents([nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d())])
    assert found.digests == set()


def test_every_part_of_a_sum_is_found():
    parts = [gpytorch.kernels.RBFKernel().double() for _ in range(40)]
    for k, part in enumerate(parts):
        part.lengthscale = 1.0 + 0.01 * k
    numbers = contents([gpytorch.kernels.AdditiveKernel(*parts)]).numbers
    assert all(any(abs(v - 1.0 - 0.01 * k) < 1e-6 for v in numbers) for k in range(40))


def test_parameters_are_found_in_their_own_units():
    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel()).double()
    kernel.base_kernel.lengthscale = torch.tensor(VALUE, dtype=torch.float64)
    assert any(abs(v - VALUE) < 1e-9 for v in contents([kernel]).numbers)


def test_loops_of_references_end():
    one = Holder(None)
    one.value = [one, VALUE]
    assert contents([one]).numbers == [VALUE]


@pytest.mark.parametrize(
    ("given", "same"),
    [
        (VALUE, True),
        (float(np.float32(VALUE)), True),
        (1.23457, True),
        (1.2346, True),
        (1.235, True),
        (1.23, False),
        (1.2, False),
        (1.2345, False),
        (1.236, False),
        (VALUE * 1.001, False),
    ],
)
def test_rounded_copies_are_recognised_from_four_digits(given, same):
    assert (not wanted(given).isdisjoint(keys(VALUE))) == same


def test_every_number_within_a_millionth_is_found():
    generator = np.random.default_rng(0)
    values = generator.choice([-1, 1], 500) * 10 ** generator.uniform(-8, 8, 500)
    for value in values:
        for distance in (5e-7, -5e-7, 1e-6, -1e-6, 1e-9):
            assert not wanted(value * (1 + distance), "a").isdisjoint(keys(value, "b"))
        assert wanted(value * (1 + 5e-6), "a").isdisjoint(keys(value, "b"))
        assert wanted(-value, "a").isdisjoint(keys(value, "a"))
        assert wanted(1 / value, "a").isdisjoint(keys(value, "a"))


def test_rounded_copies_are_recognised_under_their_own_name():
    for given in (1.235, 1.2346, 1.23457):
        assert not wanted(given, "kernel").isdisjoint(keys(VALUE, "kernel"))
        assert wanted(given, "kernel").isdisjoint(keys(VALUE, "noise"))
    assert not wanted(VALUE, "kernel").isdisjoint(keys(VALUE, "noise"))


def test_round_numbers_need_the_same_value_and_name():
    assert wanted(0.5, "kernel").isdisjoint(keys(0.50012, "kernel"))
    assert not wanted(0.5, "kernel").isdisjoint(keys(0.5, "kernel"))
    assert wanted(1.0, "kernel").isdisjoint(keys(1.0, "noise"))
    assert wanted(0.0) == keys(0.0) == set()


def test_digests_recognise_tensors_in_either_precision():
    weights = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert digest(weights) == digest(weights.float()) == digest(weights.reshape(-1))
    assert digest(weights) != digest(weights + 1e-3)
    assert digest(torch.ones(10)) is None
    assert digest(torch.arange(10)) is None


def test_marks_follow_copies_and_pickles_while_a_value_is_kept():
    kernel = gpytorch.kernels.RBFKernel().double()
    kernel.lengthscale = torch.tensor(VALUE, dtype=torch.float64)
    mark(kernel, [Source("kernel", Data(torch.arange(9.0)[:, None]))])
    for other in (copy.deepcopy(kernel), pickle.loads(pickle.dumps(kernel))):
        found = contents([other])
        assert found.marks[0].holds(found)
        other.lengthscale = torch.tensor(0.7, dtype=torch.float64)
        found = contents([other])
        assert not found.marks[0].holds(found)
    plain = gpytorch.kernels.RBFKernel()
    assert mark(plain, []) is plain
    assert contents([plain]).marks == []


def test_modules_coincide_by_any_of_their_tensors():
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))
    other = copy.deepcopy(net)
    with torch.no_grad():
        other[0].weight.add_(1.0)
    assert coincide([other], [net])
    assert not coincide([nn.Linear(8, 8)], [net])

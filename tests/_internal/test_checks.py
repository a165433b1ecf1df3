"""Tests of `bayesgen._internal.checks`."""

import math
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from bayesgen._internal import checks

F64 = torch.float64
ONES = torch.ones(3, dtype=F64)


def test_python_numbers_and_lists_become_float64():
    for value in (1.0, [1.0, 2.0], np.ones(2)):
        assert checks.as_tensor("x", value).dtype == F64
    assert checks.as_tensor("x", ONES) is ONES
    fixed = np.ones(2)
    fixed.flags.writeable = False
    checks.as_tensor("x", fixed)[0] = 5.0  # The tensor has memory of its own.
    assert fixed[0] == 1.0


def test_inputs_of_one_column_may_be_a_vector():
    assert checks.inputs("x", ONES).shape == (3, 1)
    assert checks.targets("y", torch.ones(2, 3, 4, dtype=F64), 3, like=ONES).shape == (2, 3, 4)


def test_positive_numbers_take_the_dtype_of_the_data():
    assert checks.positive("noise", 2, like=ONES.float()).dtype == torch.float32
    assert checks.positive("noise", 2).dtype == F64


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: checks.real("x", torch.arange(3)), TypeError, "x must hold real numbers"),
        (lambda: checks.real("x", ONES.float(), like=ONES), TypeError, "x must have the dtype of"),
        (lambda: checks.real("x", ONES.to("meta"), like=ONES), ValueError, "on device meta"),
        (lambda: checks.real("x", [1.0, math.nan]), ValueError, r"the first at index \(1,\)"),
        (lambda: checks.as_tensor("x", "text"), TypeError, "x must be a tensor or an array"),
        (lambda: checks.as_tensor("x", [[1.0], [1.0, 2.0]]), TypeError, "tensor or an array"),
        (lambda: checks.inputs("x", ONES[:0]), ValueError, "x is empty"),
        (lambda: checks.inputs("x", ONES.reshape(1, 1, 3)), ValueError, r"shape \(n, d\)"),
        (lambda: checks.targets("y", torch.arange(3), 3, like=ONES), TypeError, "one_hot"),
        (lambda: checks.targets("y", ONES, 4, like=ONES), ValueError, "each of the 4 inputs"),
        (lambda: checks.positive("noise", 0), ValueError, "noise must be positive"),
        (lambda: checks.positive("noise", -ONES), ValueError, "a smallest value of -1"),
        (lambda: checks.class_labels("y", [0, 3], 3), ValueError, r"y must lie in 0\.\.2"),
        (lambda: checks.class_labels("y", [0.0], 3), TypeError, "integer class labels"),
        (lambda: checks.class_labels("y", [0], 1), ValueError, "at least 2"),
        (lambda: checks.whole("n", True), ValueError, "n must be an integer of at least 1"),
        (lambda: checks.whole("n", 2, 3), ValueError, "at least 3, got 2"),
        (lambda: checks.share("level", 1.5), ValueError, r"level must lie in \[0, 1\]"),
        (lambda: checks.share("level", "x"), TypeError, "level must be a number"),
        (lambda: checks.flag("noise", 1), TypeError, "noise must be True or False, got 1"),
        (lambda: checks.one_of("kind", "c", ("a", "b")), ValueError, "one of 'a', 'b', got 'c'"),
        (lambda: checks.network("net", 3), TypeError, "net must be a torch.nn.Module, got int"),
        (lambda: checks.network("net", nn.ReLU()), ValueError, "trainable parameters"),
    ],
)
def test_invalid_arguments_raise_by_name(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_gram_accepts_rounding_and_refuses_asymmetry_in_every_block():
    K = torch.eye(700, dtype=F64)
    K[3, 690] = 1e-14
    assert checks.gram(K, 700, "K") is K
    for place in ((3, 690), (690, 3), (690, 600)):
        skew = K.clone()
        skew[place] = 1e-6
        with pytest.raises(ValueError, match="K must be symmetric"):
            checks.gram(skew, 700, "K")


def test_negative_eigenvalues_beyond_rounding_raise():
    checks.psd(-1e-16, 1.0, 10, F64, "K")
    with pytest.raises(ValueError, match="K must be positive semi-definite"):
        checks.psd(-1e-3, 1.0, 10, F64, "K")


def test_twin_returns_trained_parameters_of_the_other_network():
    net, other = (nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)) for _ in range(2))
    net[0].requires_grad_(False)
    found = checks.twin("prior_mean", other, net)
    assert set(found) == {"1.weight", "1.bias"}
    assert torch.equal(found["1.weight"], other[1].weight)
    with pytest.raises(ValueError, match=r"parameter '1\.weight' of shape \(1, 3\)"):
        checks.twin("prior_mean", nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1)), net)


class Table:
    """A table of another library, which numpy reads by `__array__`."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype=dtype)


BASE = np.arange(12.0).reshape(4, 3)
LOCKED = BASE.copy()
LOCKED.flags.writeable = False


@pytest.mark.parametrize(
    ("value", "same"),
    [
        (BASE[::-1], BASE[::-1]),
        (BASE[:, ::-1], BASE[:, ::-1]),
        (np.asfortranarray(BASE), BASE),
        (BASE.astype(">f8"), BASE),
        (BASE.astype(np.longdouble), BASE),
        (BASE.astype(object), BASE),
        (LOCKED, BASE),
        (np.ma.masked_array(BASE), BASE),
        (pd.DataFrame(BASE, index=[9, 2, 2, 7]), BASE),
        (pd.DataFrame(BASE).astype("Float64"), BASE),
        (pd.DataFrame(BASE).assign(k=np.arange(4)), np.c_[BASE, np.arange(4)]),
        (pd.DataFrame(BASE)[0].iloc[[3, 1]], BASE[[3, 1], 0]),
        (Table(BASE), BASE),
        ([torch.ones(2, dtype=F64, requires_grad=True)] * 2, np.ones((2, 2))),
        (np.float64(2.5), np.array(2.5)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_arrays_and_tables_count_by_position(value, same):
    found = checks.as_tensor("x", value)
    assert found.dtype == F64
    np.testing.assert_array_equal(found.numpy(), same)


def test_objects_become_numbers_and_missing_values_become_nan():
    assert checks.as_tensor("y", pd.Series([1, 0], dtype=object)).dtype == torch.int64
    with pytest.raises(ValueError, match=r"y must be finite, got 1 NaN .* at index \(1,\)"):
        checks.real("y", pd.Series([1.0, pd.NA], dtype="Float64"))
    with pytest.raises(ValueError, match=r"got 1 NaN or infinite value, the first at index"):
        checks.real("y", np.array([Decimal("0.5"), None], dtype=object))


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (np.ma.masked_array([1.0, 2.0], [False, True]), ValueError, r"masked .* at index \(1,\)"),
        (torch.eye(3, dtype=F64).to_sparse(), TypeError, "x must be a dense tensor"),
        (np.array(["a"]), TypeError, "an array of numbers, got dtype <U1"),
        (pd.DataFrame({"a": [1.0], "b": ["q"]}), TypeError, "column 'b' holds values such as q"),
        (torch.ones(2, dtype=torch.float16), TypeError, "got dtype torch.float16; convert"),
        (torch.ones(2, dtype=torch.bfloat16), TypeError, "got dtype torch.bfloat16; convert"),
        (np.ones(2, dtype=np.complex128), TypeError, "got dtype torch.complex128"),
    ],
    ids=str,
)
def test_values_that_are_no_real_numbers_raise(value, kind, message):
    with pytest.raises(kind, match=message):
        checks.real("x", value)


def test_owned_memory_is_free_of_graphs_inference_mode_and_the_caller():
    with torch.inference_mode():
        made = torch.ones(3, dtype=F64)
        inside = checks.owned(made)
    for value in (made, inside, ONES.clone().requires_grad_(), ONES.expand(2, 3)):
        own = checks.owned(value)
        assert not own.requires_grad
        assert not own.is_inference()
        assert own.is_contiguous()
    assert checks.owned(ONES).data_ptr() != ONES.data_ptr()
    assert not checks.inputs("x", ONES.clone().requires_grad_()).requires_grad
    assert not checks.targets("y", ONES.clone().requires_grad_(), 3, like=ONES).requires_grad


@pytest.mark.parametrize("value", [3, np.int64(3), np.int32(3), torch.tensor(3), np.array(3)])
def test_integers_of_any_library_are_integers(value):
    found = checks.whole("starts", value)
    assert type(found) is int
    assert found == 3


@pytest.mark.parametrize("value", [3.0, "3", None, True, np.bool_(True), np.float64(3)])
def test_other_values_are_no_integers(value):
    with pytest.raises(ValueError, match="starts must be an integer"):
        checks.whole("starts", value)


@pytest.mark.parametrize("value", [0.1, np.float32(0.1), torch.tensor(0.1), np.array(0.1), ONES])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_hyperparameters_take_the_dtype_of_the_data(value, dtype):
    found = checks.positive("noise", value, like=ONES.to(dtype))
    assert found.dtype == dtype
    with pytest.raises(ValueError, match="noise must be positive"):
        checks.positive("noise", torch.tensor(1e-60, dtype=F64), like=ONES.float())


def test_numbers_of_any_sign_and_above_a_least_one():
    assert checks.number("a", torch.tensor(-2)) == -2.0
    assert checks.amount("a", np.float32(0.5)) == 0.5
    with pytest.raises(ValueError, match=r"^a must be finite, got nan$"):
        checks.number("a", math.nan)
    with pytest.raises(ValueError, match=r"^a must be finite and at least 0, got -1$"):
        checks.amount("a", -1)
    for wrong in ("2", True, [1.0, 2.0], None):
        with pytest.raises(TypeError, match=r"^a must be a number, got"):
            checks.number("a", wrong)

"""Tests of `bayesgen.networks.inputs`."""

from collections import UserDict

import numpy as np
import pytest
import torch
from torch import nn

from bayesgen.networks import inputs
from bayesgen.networks.inputs import Inputs, call, converted, joined, read


class Two(nn.Module):
    def forward(self, first, second):
        return first.sum(-1) + second.sum(-1)


class One(nn.Module):
    def forward(self, batch):
        values = batch.values() if hasattr(batch, "values") else batch
        return sum(part.sum(-1) for part in values)


class Optional(nn.Module):
    def forward(self, first, mask=None):
        return first.sum(-1) if mask is None else (first * mask).sum(-1)


class Anything(nn.Module):
    def forward(self, **given):
        return given["first"].sum(-1)


A, B = torch.arange(6.0).reshape(3, 2), torch.ones(3, 2)


@pytest.mark.parametrize(
    ("net", "x", "want", "spread"),
    [
        (Two(), (A, B), A.sum(-1) + B.sum(-1), True),
        (One(), (A, B), A.sum(-1) + B.sum(-1), False),
        (Optional(), (A, B), A.sum(-1), True),
        (Two(), {"first": A, "second": B}, A.sum(-1) + B.sum(-1), True),
        (One(), {"first": A, "second": B}, A.sum(-1) + B.sum(-1), False),
        (One(), UserDict(first=A, second=B), A.sum(-1) + B.sum(-1), False),
        (Anything(), {"first": A, "second": B}, A.sum(-1), True),
    ],
    ids=range(7),
)
def test_several_inputs_are_arguments_or_one_argument(net, x, want, spread):
    found = read("x", x, net)
    assert isinstance(found, Inputs)
    assert found.spread is spread
    assert len(found) == 3
    torch.testing.assert_close(call(net, found), want)
    for index in (slice(1, 3), torch.tensor([2, 0])):
        torch.testing.assert_close(call(net, found[index]), want[index])
    pieces = found.split(2)
    assert [len(piece) for piece in pieces] == [2, 1]
    torch.testing.assert_close(call(net, joined(pieces)), want)


def test_a_network_may_overwrite_what_it_receives():
    class Overwrites(nn.Module):
        def forward(self, first, second):
            first += second
            return first

    a = A.clone()
    call(Overwrites(), read("x", (a, B), Overwrites()))
    assert torch.equal(a, A)
    call(nn.ReLU(inplace=True), -a)
    assert torch.equal(a, A)


def test_integers_keep_their_dtype():
    tokens = torch.tensor([[1, 2], [3, 4]])
    assert read("x", tokens, nn.Embedding(5, 2)).dtype == torch.int64
    assert converted(tokens, torch.float64).dtype == torch.int64
    both = converted(read("x", (tokens, A[:2]), Two()), torch.float64)
    assert [part.dtype for part in inputs.tensors(both)] == [torch.int64, torch.float64]
    assert both.shape == (2, (2,), (2,))


def test_arrays_and_lists_are_read_as_one_tensor():
    for value in (A.numpy(), A.tolist(), A):
        assert torch.equal(read("x", value, nn.Linear(2, 1)).float(), A)
    assert read("x", np.arange(3), nn.Embedding(3, 1)).shape == (3,)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.zeros(3), ValueError, r"shape \(n, …\)"),
        (torch.zeros(0, 2), ValueError, "n ≥ 1"),
        (torch.tensor([[float("nan")]]), ValueError, "finite"),
        (torch.zeros(2, 2, dtype=torch.complex64), TypeError, "real numbers or integers"),
        ({}, ValueError, "at least one array"),
        ((A, B[:2]), ValueError, "one number of rows"),
        ({"first": A, "second": "b"}, TypeError, r"x\['second'\]"),
        (None, TypeError, "x must be"),
    ],
    ids=range(8),
)
def test_what_is_no_input_is_refused(x, error, message):
    with pytest.raises(error, match=message):
        read("x", x, Two())

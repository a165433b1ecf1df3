"""Tests of `bayesgen.kernels.grammar`: kernels written as text."""

import contextlib

import gpytorch
import pytest
import torch
from hypothesis import given, settings, strategies as st

import bayesgen
from bayesgen.kernels import parsed
from bayesgen.kernels.grammar import FORMS

X = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]


def covariance(text):
    with torch.no_grad():
        return parsed(text).double()(X).to_dense()


def test_sums_products_and_brackets():
    found = parsed("rbf + periodic*rbf")
    assert isinstance(found, gpytorch.kernels.AdditiveKernel)
    assert all(isinstance(part, gpytorch.kernels.ScaleKernel) for part in found.kernels)
    rbf, linear, periodic = (covariance(t) for t in ("rbf", "linear", "periodic"))
    start = torch.nn.functional.softplus(torch.zeros(())).double()
    torch.testing.assert_close(
        covariance("(linear + rbf) * periodic"), (linear + start * rbf) * periodic
    )


def test_settings():
    assert parsed("nngp(3)").depth == parsed("NNGP(depth=3)").depth == 3
    assert parsed("ntk(2, erf)").activation == "erf"
    assert parsed("rbf(ard)", 4).ard_num_dims == 4
    assert parsed("periodic(column=2)", 4).active_dims.tolist() == [2]
    assert parsed("polynomial(3, column=0)").active_dims.tolist() == [0]
    assert parsed("arccos(0, depth=2)").order == 0
    assert parsed("spectral(mixtures=3)").num_mixtures == 3


def joined(inside):
    both = st.tuples(inside, st.sampled_from("+*"), inside)
    return both.map(lambda t: f"({t[0]} {t[1]} {t[2]})")


@settings(max_examples=60, deadline=None)
@given(st.recursive(st.sampled_from(FORMS), joined, max_leaves=6))
def test_every_sum_and_product_is_read(text):
    assert isinstance(parsed(text), gpytorch.kernels.Kernel)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="rbf+*()periodc =,3", max_size=20) | st.text(max_size=20))
def test_any_other_text_raises_one_kind_of_error(text):
    with contextlib.suppress(ValueError):
        parsed(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must have the name of a kernel"),
        ("rfb", "did you mean 'rbf'"),
        ("rbf +", r"must have the name of a kernel \(character 6\)"),
        ("rbf rbf", "has 'rbf' too much"),
        ("rbf(", "must have '\\)' here, got its end"),
        ("rbf(3)", "has a setting '3', but rbf takes ard, column"),
        ("linear(3)", "linear takes column"),
        ("rbf(column=1)", "must have a column below 1, counted from 0, got 1"),
        ("ntk(width=3)", "ntk takes depth, activation"),
        ("nngp(depth=x)", "must have a whole number for depth, got 'x'"),
        ("nngp(depth=3, depth=3)", "has the setting 'depth' of nngp twice"),
        ("rbf(column=0, column=0)", "has the setting 'column' of rbf twice"),
        ("polynomial(0)", r"must have degree in 1..100, got 0 \(character 12\)"),
        ("polynomial(99999999999999)", "must have degree in 1..100"),
        ("spectral(0)", "must have mixtures in 1..100"),
        ("nngp(depth=9999)", "must have depth in 1..100"),
        ("arccos(3)", "must have order in 0..2"),
        ("__import__('os')", 'cannot have "\'"'),
        ("(" * 30 + "rbf", "more than 20 brackets"),
        ("+".join(["rbf"] * 30), "more than 20 kernels"),
    ],
)
def test_a_wrong_text_is_shown_where_it_is_wrong(text, words):
    with pytest.raises(ValueError, match=words):
        parsed(text)


def test_something_else_is_refused():
    with pytest.raises(TypeError, match="kernel must be a text"):
        parsed(3)


@pytest.mark.parametrize("columns", ["2", 2.5, 0, None])
def test_a_wrong_number_of_columns_is_refused(columns):
    with pytest.raises(ValueError, match="columns must be an integer of at least 1"):
        parsed("rbf(ard)", columns)


@pytest.mark.parametrize("text", ["spectral", "spectral(3) + rbf", "rbf(ard, column=1)"])
def test_kernels_fit_inputs_of_several_columns(text):
    x = torch.stack([X[:, 0], X[:, 0].square()], 1)
    kernel = parsed(text, 2).double()
    assert kernel(x).to_dense().shape == (5, 5)
    bayesgen.GaussianProcess(kernel, 0.1, hyperparameters="fixed").fit(x, X[:, 0])

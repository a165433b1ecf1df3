"""Tests of `bayesgen.select.structure`: sums of products of kernels in one form."""

import pytest
import torch
from hypothesis import given, settings, strategies as st

import bayesgen as bg
from bayesgen.covariance.gram import gram
from bayesgen.kernels import parsed
from bayesgen.select.structure import NULL, Structure

T = torch.linspace(-1, 3, 40, dtype=torch.float64)
Y = torch.sin(3 * T) + 0.5 * T + 0.1 * torch.cos(91 * T)
NAMES = ["linear", "rbf", "constant", "matern12", "periodic", "polynomial(1)", "rbf(ard)"]
terms_of = st.lists(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3), max_size=3)


@given(terms=terms_of, columns=st.integers(1, 2))
def test_a_canonical_form_is_its_own_and_no_larger(terms, columns):
    structure = Structure.of(terms)
    found = structure.canonical(columns)
    assert found.canonical(columns) == found
    assert found.size <= structure.size


@settings(max_examples=20)
@given(terms=terms_of, data=st.data())
def test_the_canonical_form_does_not_depend_on_the_order(terms, data):
    other = data.draw(st.permutations([data.draw(st.permutations(term)) for term in terms]))
    assert Structure.of(other).canonical() == Structure.of(terms).canonical()


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("linear + linear", 1, "linear"),
        ("linear*linear + linear*linear", 1, "linear*linear"),
        ("linear*rbf + linear*rbf", 1, "linear*rbf + linear*rbf"),
        ("constant*rbf", 1, "rbf"),
        ("constant*constant", 1, NULL),
        ("rbf + constant", 1, "rbf"),
        ("rbf*rbf + periodic*periodic", 1, "rbf + periodic*periodic"),
        ("rbf + rbf", 1, "rbf + rbf"),
        ("matern12*matern12", 1, "matern12"),
        ("matern32*matern32", 1, "matern32*matern32"),
        ("matern12(ard)*matern12(ard)", 2, "matern12(ard)*matern12(ard)"),
        ("RBF( ard )*rbf", 1, "rbf"),
        ("rbf(ard)*rbf*rbf(column=1)", 2, "rbf(ard)"),
        ("rbf(column=0)*rbf(column=0)", 2, "rbf(column=0)"),
        ("rbf(column=0)*rbf(column=1)", 2, "rbf(column=0)*rbf(column=1)"),
        ("polynomial(1) + linear", 1, "linear"),
        ("polynomial(1)*rbf", 1, "polynomial(1)*rbf"),
        ("polynomial(degree=2)", 1, "polynomial"),
        ("linear(column=0) + linear(column=1)", 2, "linear(column=0) + linear(column=1)"),
    ],
)
def test_identities(text, columns, expected):
    terms = [term.strip().split("*") for term in text.split("+")]
    assert Structure.of(terms).canonical(columns).text == expected


def matrix(text, **values):
    kernel = parsed(text).double()
    for path, value in values.items():
        owner, name = kernel, path.split("__")
        for part in name[:-1]:
            owner = owner.kernels[int(part[1:])] if part[0] == "k" else owner.base_kernel
        setattr(owner, name[-1], value)
    matrices = gram(kernel, T[:, None])
    return matrices.matrix(matrices.start())


def test_gram_matrices_of_the_identities_agree():
    pairs = [
        (matrix("rbf*rbf", k0__lengthscale=0.5, k1__lengthscale=1.5),
         matrix("rbf", lengthscale=(0.5**-2 + 1.5**-2) ** -0.5)),
        (matrix("matern12*matern12", k0__lengthscale=0.5, k1__lengthscale=1.5),
         matrix("matern12", lengthscale=1 / (1 / 0.5 + 1 / 1.5))),
        (matrix("linear + linear", k0__variance=0.3, k1__variance=0.9),
         matrix("linear", variance=1.2)),
        (matrix("linear*linear + linear*linear", k0__b__k0__variance=0.3, k1__b__k0__variance=0.7,
                k0__b__k1__variance=1.0, k1__b__k1__variance=1.0,
                k0__outputscale=1.0, k1__outputscale=1.0),
         matrix("linear*linear", k0__variance=1.0, k1__variance=1.0)),
        (matrix("polynomial(1)", offset=0.4),
         matrix("linear + constant", k0__variance=1.0, k1__constant=torch.tensor(0.4))),
        (matrix("constant*rbf", k0__constant=torch.tensor(2.0), k1__lengthscale=0.7),
         2 * matrix("rbf", lengthscale=0.7)),
    ]  # fmt: skip
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("text", ["linear + linear", "polynomial(1)", "constant*linear"])
def test_the_evidence_of_the_identities_agrees(text):
    terms = [term.strip().split("*") for term in text.split("+")]
    smaller = Structure.of(terms).canonical().text
    one, two = (
        bg.GaussianProcess(parsed(f"{t} + constant"), starts=3).fit(T, Y) for t in (text, smaller)
    )
    torch.testing.assert_close(
        one.evidence.log_marginal_likelihood,
        two.evidence.log_marginal_likelihood,
        atol=0.02,
        rtol=0,
    )


def test_expansions_hold_each_model_once():
    found = [s.text for s in Structure.of([["linear"]]).expansions(("linear", "constant", "rbf"))]
    assert found == ["linear*linear", "linear + rbf", "linear*rbf", "rbf"]

"""Tests of `bayesgen.experiments.inductive_biases` and of `bayesgen.plots.inductive_biases`."""

import numpy as np
import pytest

import bayesgen as bg
from bayesgen.experiments import inductive_biases


@pytest.fixture(scope="module")
def result():
    return inductive_biases(degree=30, sizes=(10, 20, 120), repetitions=3, shown=20)


def test_soft_preference_learns_what_the_restriction_excludes(result):
    error = result.rmse.median("repetition")
    soft, hard = (error.sel(bias=b) for b in ("soft preference", "hard restriction"))
    assert (soft.sel(n=120, target=["x + cos πx", "unstructured"]) < 0.6 * hard.sel(n=120)).all()
    none = error.sel(bias="no preference")
    assert (soft.sel(target="x + cos πx") < 0.6 * none.sel(target="x + cos πx")).all()
    assert float(soft.sel(target="degree 2", n=120)) < 0.05


def test_evidence_prefers_the_restriction_only_where_it_is_true(result):
    evidence = result.log_marginal_likelihood.median("repetition").sel(n=120)
    best = evidence.bias.values[evidence.argmax("bias").values]
    assert list(best) == ["hard restriction", "soft preference", "soft preference"]


def test_evidence_is_that_of_a_polynomial(result):
    y = result.y.sel(target="x + cos πx").values
    x = result.x.sel(target="x + cos πx").values
    model = bg.Polynomial(2, kind="legendre", input_range=(-1, 1))
    one = result.sel(bias="hard restriction", target="x + cos πx", n=20)
    want = model.fit(x, y).evidence.log_marginal_likelihood
    np.testing.assert_allclose(one.log_marginal_likelihood[0], want, rtol=1e-6)


def test_figure_draws(result):
    assert len(inductive_biases.plot(result).axes) == 15


def test_a_size_that_is_not_computed_cannot_be_shown():
    with pytest.raises(ValueError, match=r"shown must be one of the sizes \[5, 10\], got 7"):
        inductive_biases(sizes=(5, 10), shown=7)

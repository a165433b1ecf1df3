"""Tests of `bayesgen.pacbayes.binomial`."""

import math

import pytest
import scipy.stats
from hypothesis import given, settings, strategies as st

from bayesgen.pacbayes import binomial


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 100_000), share=st.floats(0, 1), delta=st.floats(1e-6, 0.5))
def test_the_bound_is_the_largest_risk_with_so_few_errors(n, share, delta):
    k = round(share * n)
    p = binomial(k, n, delta)
    if k == n:
        assert p == 1
        return
    assert scipy.stats.binom.cdf(k, n, p) <= delta * (1 + 1e-9)
    assert scipy.stats.binom.cdf(k, n, p * (1 - 1e-6)) >= delta * (1 - 1e-9)
    assert p >= k / n


@pytest.mark.parametrize(("n", "delta"), [(3 * 10**9, 1e-13), (10**6, 1e-17), (10**6, 1e-200)])
def test_small_delta_and_large_n_keep_their_digits(n, delta):
    p = binomial(0, n, delta)
    assert n * math.log1p(-p) <= math.log(delta) * (1 - 1e-13)
    assert p == pytest.approx(-math.expm1(math.log(delta) / n), rel=1e-8)


def test_the_bound_fails_as_often_as_it_says():
    risk, n, delta = 0.2, 50, 0.1
    fails = sum(
        scipy.stats.binom.pmf(k, n, risk) for k in range(n + 1) if binomial(k, n, delta) < risk
    )
    assert 0.03 < fails <= delta


@pytest.mark.parametrize(
    ("errors", "n", "delta", "words"),
    [(5, 4, 0.05, "errors must be at most n = 4"), (-1, 4, 0.05, "errors"), (1, 0, 0.05, "n must"),
     (1, 4, 1.0, "delta")],
)  # fmt: skip
def test_bad_arguments_are_named(errors, n, delta, words):
    with pytest.raises(ValueError, match=words):
        binomial(errors, n, delta)

"""Tests of `bayesgen.pacbayes.vote`."""

import pytest
import torch

from bayesgen import pacbayes
from bayesgen.pacbayes.vote import vote


def test_c_bound_is_above_brute_force_error(rng):
    for _ in range(200):
        W = torch.from_numpy(rng.beta(0.5, 2.0, 400))
        errs = float((W >= 0.5).double().mean())
        first, second = W.mean(), W.square().mean()
        assert float(pacbayes.c_bound(first, second)) >= errs - 1e-12
        assert float(pacbayes.c_bound(first + 0.05, second + 0.02)) >= errs - 1e-12
        assert (
            float(pacbayes.c_bound(first + 0.05, second))
            >= float(pacbayes.c_bound(first, second)) - 1e-12
        )


def test_vote_takes_the_smaller_of_its_two_bounds():
    even = torch.full((2000,), 0.3, dtype=torch.float64)  # Every voter errs alike often.
    bound, words = vote(even, 5.0, 0.05)
    gibbs = pacbayes.maurer(0.3, 5.0, 2000, 0.025)
    joint = pacbayes.maurer(0.09, 10.0, 2000, 0.025)
    assert bound == pytest.approx(float(pacbayes.c_bound(gibbs, joint)))
    assert bound < 2 * float(gibbs)
    assert words.startswith("The C-bound")
    agreed = torch.zeros(2000, dtype=torch.float64)  # On each point all voters agree.
    agreed[:200] = 1.0
    bound, words = vote(agreed, 5.0, 0.05)
    assert bound == pytest.approx(2 * float(pacbayes.maurer(0.1, 5.0, 2000, 0.025)))
    assert words.startswith("Twice the Gibbs")


def test_c_bound_is_one_where_most_voters_may_err():
    assert float(pacbayes.c_bound(torch.tensor(0.5), torch.tensor(0.3))) == 1.0
    assert float(pacbayes.c_bound(torch.tensor(0.2), torch.tensor(0.0))) == 0.0

"""Tests of `bayesgen.sampling.estimates` on normal log weights, whose distribution is known."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from bayesgen.sampling import estimates

TRUTH, SPREAD = -100.0, 2.0


def weights(count, seed):
    """Log weights that obey Crooks's relation: normal, with means log Z ∓ s²/2 and variance s²."""
    generator = torch.Generator().manual_seed(seed)
    z = SPREAD * torch.randn(2, count, generator=generator, dtype=torch.float64)
    return TRUTH - SPREAD**2 / 2 + z[0], TRUTH + SPREAD**2 / 2 + z[1]


def test_all_estimates_converge_to_the_truth():
    forward, backward = weights(200_000, 0)
    assert estimates._crossing(forward, backward) == pytest.approx(TRUTH, abs=0.02)
    bounds = estimates.importance(forward, backward, math.exp(-1))
    assert bounds.lower + 1 == pytest.approx(TRUTH, abs=0.3)
    assert bounds.upper - 1 == pytest.approx(TRUTH, abs=0.3)
    means = estimates.thermodynamic(forward, backward, 0.5)
    assert means.lower == pytest.approx(TRUTH - 2, abs=0.02)
    assert means.upper == pytest.approx(TRUTH + 2, abs=0.02)


def test_each_end_fails_no_more_often_than_stated():
    failures = dict.fromkeys(("importance", "thermodynamic"), 0)
    for seed in range(400):
        forward, backward = weights(16, seed)
        for name in failures:
            bounds = getattr(estimates, name)(forward, backward, 0.1)
            failures[name] += (bounds.lower > TRUTH) + (bounds.upper < TRUTH)
    assert max(failures.values()) <= 0.1 * 800


def test_the_jackknife_error_is_the_spread_of_the_estimate():
    pairs = [estimates.bridge(*weights(24, seed)) for seed in range(100)]
    values, errors = (torch.tensor(column) for column in zip(*pairs, strict=True))
    assert float(values.mean()) == pytest.approx(TRUTH, abs=0.2)
    assert float(errors.square().mean().sqrt()) == pytest.approx(float(values.std()), rel=0.3)


@settings(deadline=None, max_examples=40)
@given(shift=st.floats(-1e6, 1e6), gap=st.floats(0, 500), seed=st.integers(0, 99))
def test_estimates_move_with_the_weights(shift, gap, seed):
    forward, backward = weights(8, seed)
    forward, backward = forward - gap, backward + gap
    here, there = (estimates._crossing(forward + by, backward + by) for by in (0.0, shift))
    assert there - shift == pytest.approx(here, abs=1e-6)
    swapped = estimates._crossing(-backward, -forward)
    assert swapped == pytest.approx(-here, abs=1e-6)


def test_an_infinite_weight_leaves_the_mean_without_a_bound():
    forward = torch.tensor([-math.inf, -1.0, -2.0], dtype=torch.float64)
    backward = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    assert estimates.thermodynamic(forward, backward, 0.1).lower == -math.inf
    assert math.isfinite(estimates.importance(forward, backward, 0.1).lower)


def test_effective_number_of_weights():
    equal = torch.zeros(7, dtype=torch.float64)
    assert estimates.effective_sample_size(equal) == pytest.approx(7)
    equal[0] = 1000.0
    assert estimates.effective_sample_size(equal) == pytest.approx(1)


def test_an_interval_holds_its_ends():
    assert estimates.EvidenceInterval(0.0, 1.0).contains(1.0)
    assert not estimates.EvidenceInterval(0.0, 1.0).contains(1.1)

"""Tests of `bayesgen.sampling.hmc`, `bayesgen.sampling.ladder` and `bayesgen.sampling.target`."""

import math

import pytest
import torch

from bayesgen.sampling.hmc import Kernel, Stage, pilot, prior_draws, transition
from bayesgen.sampling.ladder import index_of, ladder
from bayesgen.sampling.target import ChainStates, stated


def normal(precision=3.0):
    """A normal likelihood N(θ | 1, 1/precision) of two weights, with prior N(0, ½)."""
    return stated(lambda w: -0.5 * precision * (w - 1).square().sum(1), 2, 10, 2.0)


def test_transitions_leave_the_tempered_posterior_invariant():
    """Chains that start from the exact distribution keep its mean and variance."""
    target, beta, generator = normal(), 0.5, torch.Generator().manual_seed(0)
    precision = 2.0 + beta * 3.0
    mean, sd = beta * 3.0 / precision, precision**-0.5
    theta = mean + sd * torch.randn(20_000, 2, generator=generator, dtype=torch.float64)
    point = target.at(theta * math.sqrt(2))
    kernel = Kernel(beta, 0.8, torch.ones(2, dtype=torch.float64))
    rates = []
    for _ in range(3):
        point, acceptance = transition(target, point, kernel, 4, generator)
        rates.append(float(acceptance.mean()))
    found = target.weights(point.z)
    assert (found.mean(0) - mean).abs().max() < 4 * sd / 20_000**0.5
    assert (found.std(0) - sd).abs().max() < 4 * sd / 40_000**0.5
    assert 0.5 < min(rates) < 1


def test_values_and_slopes_are_those_of_the_state():
    target, generator = normal(), torch.Generator().manual_seed(1)
    point = prior_draws(target, 8, generator)
    kernel = Kernel(1.0, 0.5, torch.ones(2, dtype=torch.float64))
    moved = transition(target, point, kernel, 3, generator).point
    again = target.at(moved.z)
    torch.testing.assert_close(moved.value, again.value)
    torch.testing.assert_close(moved.slope, again.slope)


def test_a_move_to_a_value_that_is_no_number_is_rejected():
    def log_likelihood(w):
        return torch.where(w[:, 0] > 0.1, torch.nan, -w.square().sum(1))

    target, generator = stated(log_likelihood, 1, 10, 1.0), torch.Generator().manual_seed(0)
    point = target.at(torch.zeros(64, 1, dtype=torch.float64))
    kernel = Kernel(1.0, 1.0, torch.ones(1, dtype=torch.float64))
    moved = transition(target, point, kernel, 1, generator).point
    assert moved.value.isfinite().all()
    assert (target.weights(moved.z) <= 0.1).all()


def test_the_pilot_run_reaches_the_posterior_with_the_wanted_acceptance():
    target, generator = normal(300.0), torch.Generator().manual_seed(0)
    seen = []
    stages = pilot(target, 64, 6, 6, generator, seen.append)
    betas = [stage.kernel.beta for stage in stages]
    assert betas[0] == 0
    assert betas[-1] == 1
    assert betas == sorted(set(betas))
    assert seen == betas[1:]
    # The scales follow the curvature 1 + 300β/2 of whitened weights.
    assert float(stages[-1].kernel.scale.mean()) == pytest.approx(151**-0.5, rel=0.3)


def test_a_ladder_has_increasing_rungs_with_the_marked_one():
    ones = torch.ones(2, dtype=torch.float64)
    stages = [
        Stage(Kernel(beta, step, ones), deviation)
        for beta, step, deviation in ((0.0, 1.0, 100.0), (0.1, 0.5, 10.0), (1.0, 0.1, 1.0))
    ]
    kernels = ladder(stages, 50, 0.3)
    betas = [kernel.beta for kernel in kernels]
    assert len(betas) == 51
    assert betas[0] == 0
    assert betas[-1] == 1
    assert betas == sorted(set(betas))
    assert betas[index_of(kernels, 0.3)] == 0.3
    assert sum(b < 0.1 for b in betas) > 20  # most rungs where the likelihood varies most
    assert all(0.1 - 1e-9 <= kernel.step <= 1 for kernel in kernels)


def test_a_chain_in_a_steep_region_comes_free():
    """The step that suits the mode of −10⁴w⁴ is much too large at w = 3."""
    target = stated(lambda w: -1e4 * w[:, 0] ** 4, 1, 10, 1.0)
    generator = torch.Generator().manual_seed(0)
    point = target.at(torch.full((16, 1), 3.0, dtype=torch.float64))
    kernel = Kernel(1.0, 0.08, torch.ones(1, dtype=torch.float64))
    for _ in range(150):
        point = transition(target, point, kernel, 4, generator).point
    assert (point.z.abs() < 0.5).all()


def test_a_constant_likelihood_has_a_ladder():
    ones = torch.ones(1, dtype=torch.float64)
    stages = [Stage(Kernel(beta, 1.0, ones), 0.0) for beta in (0.0, 1.0)]
    betas = [kernel.beta for kernel in ladder(stages, 4, 0.4)]
    assert betas == sorted(set(betas))
    assert 0.4 in betas


def test_points_are_chosen_chain_by_chain():
    a = ChainStates(torch.zeros(2, 1), torch.zeros(2), torch.zeros(2, 1))
    b = ChainStates(torch.ones(2, 1), torch.ones(2), torch.ones(2, 1))
    assert a.where(torch.tensor([True, False]), b).value.tolist() == [0.0, 1.0]

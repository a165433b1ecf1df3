"""Tests of `bayesgen.select.nested_start`: larger kernels start at the values of smaller ones."""

import gpytorch
import pytest
import torch

import bayesgen as bg
from bayesgen.select.nested_start import Parent, kernel_of, limit_periods
from bayesgen.select.structure import Structure

T = torch.linspace(0, 6, 50, dtype=torch.float64)[:, None]
Y = 0.4 * T[:, 0] + torch.sin(2 * torch.pi * T[:, 0]) + 0.1 * torch.cos(91 * T[:, 0])


def parent(text):
    structure = Structure.of([t.strip().split("*") for t in text.split("+")])
    posterior = bg.GaussianProcess(kernel_of(structure, T), starts=2).fit(T, Y)
    return Parent(structure, posterior)


def evidence(kernel, noise):
    model = bg.GaussianProcess(kernel, noise, hyperparameters="fixed")
    return float(model.fit(T, Y).evidence.log_marginal_likelihood)


@pytest.fixture(scope="module")
def season():
    return parent("periodic")


@pytest.mark.parametrize("text", ["periodic + rbf", "linear + periodic", "periodic*rbf"])
def test_the_start_is_near_the_evidence_of_the_parent_or_above_it(season, text):
    structure = Structure.of([t.strip().split("*") for t in text.split("+")])
    kernel, noise = season.start(structure, T, Y, 2, 0)
    own = float(season.posterior.evidence.log_marginal_likelihood)
    start = evidence(kernel, noise)
    found = bg.GaussianProcess(kernel, noise, starts=1).fit(T, Y)
    best = float(found.evidence.log_marginal_likelihood)
    assert best >= own - 0.01
    assert best >= start - 1e-6


def test_values_of_shared_kernels_are_those_of_the_parent(season):
    kernel, noise = season.start(Structure.of([["periodic"], ["rbf"]]), T, Y, 2, 0)
    wave = next(k for k in kernel.modules() if isinstance(k, gpytorch.kernels.PeriodicKernel))
    own = season.posterior._kernels()[0]
    theirs = next(k for k in own.modules() if isinstance(k, gpytorch.kernels.PeriodicKernel))
    torch.testing.assert_close(wave.period_length, theirs.period_length)
    assert noise == float(season.posterior.noise)


def test_structures_that_differ_in_more_than_one_kernel_have_no_start(season):
    assert season.start(Structure.of([["linear"], ["rbf"]]), T, Y, 1, 0) is None
    assert season.start(Structure.of([["periodic"], ["linear", "rbf"]]), T, Y, 1, 0) is None


def test_white_noise_and_repeated_terms_are_parents():
    noise = Parent(
        Structure(()), bg.GaussianProcess(kernel_of(Structure(()), T), starts=1).fit(T, Y)
    )
    assert noise.start(Structure.of([["rbf"]]), T, Y, 1, 0) is not None
    twice = parent("rbf + rbf")
    for text in (["rbf"], ["rbf"], ["rbf"]), (["rbf"], ["linear", "rbf"]):
        assert twice.start(Structure.of(text), T, Y, 1, 0) is not None


def test_periods_are_at_most_half_of_the_range():
    kernel = kernel_of(Structure.of([["periodic"], ["cosine", "rbf"]]), T)
    limits = [
        float(k.raw_period_length_constraint.upper_bound)
        for k in kernel.modules()
        if isinstance(k, gpytorch.kernels.PeriodicKernel | gpytorch.kernels.CosineKernel)
    ]
    assert sorted(limits) == pytest.approx([1.5, 3.0])
    both = torch.cat([T, 10 * T], 1)
    one = gpytorch.kernels.PeriodicKernel(active_dims=(1,))
    limit_periods(one, both)
    assert float(one.raw_period_length_constraint.upper_bound) == pytest.approx(30.0)

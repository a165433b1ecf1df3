"""Tests of `bayesgen.spectrum.evidence`."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, strategies as st
from scipy.stats import multivariate_normal
from torch.distributions import MultivariateNormal, kl_divergence

from bayesgen import Spectrum
from tests.spectrum.problems import problem

F64 = torch.float64


settings_of = {
    "n": st.integers(1, 30),
    "outputs": st.integers(1, 4),
    "seed": st.integers(0, 1000),
    "scale": st.floats(1e-3, 1e3),
    "noise": st.floats(1e-2, 1e2),
}


@given(**settings_of)
def test_evidence_is_normal_density(n, outputs, seed, scale, noise):
    K, y = problem(n, outputs, seed)
    got = Spectrum.dense(K, y).evidence(scale, noise)
    cov = (scale * K + noise * torch.eye(n, dtype=F64)).numpy()
    want = sum(multivariate_normal.logpdf(y[:, c].numpy(), cov=cov) for c in range(outputs))
    assert got.log_marginal_likelihood.item() == pytest.approx(want, rel=1e-8)
    assert got.error.item() < 1e-6 * max(1, abs(want))


@given(**settings_of)
def test_complexity_is_kl_of_posterior_from_prior(n, outputs, seed, scale, noise):
    K, y = problem(n, outputs, seed)
    K = K + 0.1 * torch.eye(n, dtype=F64)  # torch's KL needs an invertible prior.
    evidence = Spectrum.dense(K, y).evidence(scale, noise)
    prior = scale * K
    gain = torch.linalg.solve(prior + noise * torch.eye(n, dtype=F64), prior).mT
    cov = prior - gain @ prior
    cov = 0.5 * (cov + cov.mT)
    kl = sum(
        kl_divergence(
            MultivariateNormal(gain @ y[:, c], cov),
            MultivariateNormal(torch.zeros(n, dtype=F64), prior),
        )
        for c in range(outputs)
    )
    assert evidence.complexity.item() == pytest.approx(float(kl), rel=1e-9, abs=1e-9)
    gap = evidence.fit - evidence.complexity - evidence.log_marginal_likelihood
    assert abs(gap.item()) < 1e-9


def test_fit_is_expected_log_likelihood():
    K, y = problem(12, 1, 3)
    s, v = 1.7, 0.3
    gain = torch.linalg.solve(s * K + v * torch.eye(12, dtype=F64), s * K).mT
    mean, cov = gain @ y[:, 0], s * K - gain @ (s * K)
    want = -0.5 * (
        12 * math.log(2 * math.pi * v) + ((y[:, 0] - mean).square().sum() + cov.trace()) / v
    )
    assert Spectrum.dense(K, y).evidence(s, v).fit.item() == pytest.approx(want.item(), rel=1e-12)


def test_float32_error_covers_gap():
    K, y = problem(200, 3, 11)
    exact = Spectrum.dense(K, y).evidence(1.0, 0.01)
    rounded = Spectrum.dense(K.float(), y.float()).evidence(1.0, 0.01)
    assert rounded.fit.dtype == torch.float32
    difference = (rounded.log_marginal_likelihood - exact.log_marginal_likelihood).abs()
    assert difference < rounded.error
    assert rounded.error < 0.05 * exact.log_marginal_likelihood.abs()


def test_error_has_half_a_rounding_unit_of_the_quadratic_form_for_the_targets():
    K, y = problem(20, 2, 0)
    spectrum = Spectrum.dense(K, y)
    plain = dataclasses.replace(spectrum, y=None).evidence(1.5, 0.1).error
    e = spectrum.evidence(1.5, 0.1)
    A = 1.5 * K + 0.1 * torch.eye(20, dtype=F64)
    quadratic = (y * torch.linalg.solve(A, y)).sum()
    more = 0.5 * torch.finfo(F64).eps * quadratic
    torch.testing.assert_close(e.error - plain, more, rtol=1e-6, atol=0)


@pytest.mark.parametrize("noise", [0.05, 3.0])
@pytest.mark.parametrize("size", [0.1, 100.0])
def test_error_of_entries_covers_random_changes_of_the_matrix(noise, size):
    K, y = problem(20, 1, 0)
    y, scale, norm = size * y, 2.0, 1e-7
    spectrum = Spectrum.dense(K, y)
    rounding = dataclasses.replace(spectrum.rounding, entries=norm)
    error = (
        dataclasses.replace(spectrum, rounding=rounding).evidence(scale, noise).error
        - spectrum.evidence(scale, noise).error
    )
    value = spectrum.evidence(scale, noise).log_marginal_likelihood
    generator, changes = torch.Generator().manual_seed(0), []
    for _ in range(30):
        change = torch.randn(20, 20, generator=generator, dtype=F64)
        change = change + change.mT
        other = Spectrum.dense(K + norm * change / change.norm(), y).evidence(scale, noise)
        changes.append(float((other.log_marginal_likelihood - value).abs()))
    assert max(changes) <= float(error) <= 30 * max(changes)


def test_bracket_of_the_logarithms_widens_the_error():
    K, y = problem(60, 1, 0)
    spectrum = Spectrum.krylov(K, y, probes=4, steps=3)
    ends = [
        float(rule.integrate(lambda v: (1.3 * v + 0.1).log()))
        for rule in (spectrum.density, spectrum.radau)
    ]
    assert abs(ends[0] - ends[1]) > 1e-6
    plain = dataclasses.replace(spectrum, radau=None).evidence(1.3, 0.1).error
    more = float(spectrum.evidence(1.3, 0.1).error - plain)
    assert more == pytest.approx(0.5 * abs(ends[0] - ends[1]))

"""Tests of `bayesgen.spectrum.constructors` and `bayesgen.spectrum.evidence`.

The spectrum here is that of a block Krylov space.
"""

import pytest
import torch

from bayesgen.spectrum.spectrum import Spectrum
from tests.helpers import noisy_waves, points, rbf_matrix

F64 = torch.float64


@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize("ratio", [0.05, 1.0])
def test_evidence_is_within_its_error(dtype, ratio):
    x = points(600, 8)
    K, y = rbf_matrix(x, 0.7), noisy_waves(x)
    exact = Spectrum.dense(K, y).evidence(1.0, ratio)
    found = Spectrum.krylov(K.to(dtype), y.to(dtype), probes=16, steps=12).evidence(1.0, ratio)
    gap = (found.log_marginal_likelihood - exact.log_marginal_likelihood).abs()
    assert gap <= 3 * found.error
    assert found.error < 0.02 * exact.log_marginal_likelihood.abs()
    torch.testing.assert_close(
        found.effective_dimension, exact.effective_dimension, rtol=0.05, atol=0.5
    )


def test_errors_cover_gaps_over_many_seeds():
    x = points(300, 8)
    K, y = rbf_matrix(x, 0.5), noisy_waves(x, 1)
    exact = Spectrum.dense(K, y).evidence(1.0, 0.2).log_marginal_likelihood
    gaps = []
    for seed in range(40):
        found = Spectrum.krylov(K, y, probes=8, steps=5, seed=seed).evidence(1.0, 0.2)
        gaps.append(float((found.log_marginal_likelihood - exact) / found.error))
    score = torch.tensor(gaps)
    assert score.abs().mean() < 1.5
    assert (score.abs() < 3).double().mean() > 0.9


def test_full_space_is_exact():
    x = points(60)
    K, y = rbf_matrix(x), noisy_waves(x)
    dense, found = Spectrum.dense(K, y), Spectrum.krylov(K, y, probes=30, steps=8)
    for noise in (0.01, 1.0):
        a, b = dense.evidence(1.0, noise), found.evidence(1.0, noise)
        torch.testing.assert_close(
            a.log_marginal_likelihood, b.log_marginal_likelihood, rtol=1e-6, atol=1e-6
        )
    torch.testing.assert_close(dense.solve(1.0, 0.1), found.solve(1.0, 0.1), rtol=1e-6, atol=1e-6)


def test_iteration_stops_at_tolerance():
    x = points(600, 8)
    K, y = rbf_matrix(x, 0.5), noisy_waves(x)
    loose = Spectrum.krylov(K, y, probes=8, steps=40, tolerance=50.0)
    tight = Spectrum.krylov(K, y, probes=8, steps=40, tolerance=1e-3)
    assert len(loose.density.nodes) < len(tight.density.nodes)
    assert loose.maximise().evidence.error <= 50


def test_unavailable_quantities_raise():
    x = points(100)
    found = Spectrum.krylov(rbf_matrix(x), noisy_waves(x), steps=2)
    with pytest.raises(ValueError, match="cannot give variances"):
        found.marginals(1.0, 0.1)
    with pytest.raises(ValueError, match="cannot give solves for other targets"):
        found.load(noisy_waves(x))
    with pytest.raises(ValueError, match="probes must be"):
        Spectrum.krylov(rbf_matrix(x), noisy_waves(x), probes=1)


def test_tolerance_is_met_where_steps_suffice():
    x = points(300, 3)
    K, y = rbf_matrix(x, 0.5), noisy_waves(x)
    few = Spectrum.krylov(K, y, probes=8, steps=2)
    assert float(few.maximise().evidence.error) > 0.05
    found = Spectrum.krylov(K, y, probes=8, steps=300, tolerance=0.05)
    assert float(found.maximise().evidence.error) <= 0.05

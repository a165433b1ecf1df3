"""Tests of `bayesgen.spectrum.spectrum`."""

import math

import pytest
import torch

from bayesgen import Spectrum
from tests.spectrum.problems import problem

F64 = torch.float64


def test_batch_equals_loop():
    K, y = problem(20, 3, 0, batch=(4,))
    whole = Spectrum.dense(K, y)
    scale = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=F64)
    evidence, best = whole.evidence(scale, 0.2), whole.maximise()
    for b in range(4):
        one = Spectrum.dense(K, y[b])
        part = one.evidence(scale[b], 0.2)
        torch.testing.assert_close(evidence[b].fit, part.fit, rtol=1e-12, atol=0)
        torch.testing.assert_close(evidence[b].complexity, part.complexity, rtol=1e-12, atol=0)
        torch.testing.assert_close(best.noise[b], one.maximise().noise, rtol=1e-6, atol=0)
    assert Spectrum.dense(K, y[0, :, 0]).evidence(1.0, 1.0).batch_shape == ()


def test_effective_dimension_and_logdet_match_definitions():
    K, _ = problem(15, 1, 5)
    alpha = torch.tensor([0.01, 1.0, 100.0], dtype=F64)
    values = torch.linalg.eigvalsh(K)
    want = torch.stack([(values / (values + a)).sum() for a in alpha])
    torch.testing.assert_close(Spectrum.dense(K).effective_dimension(alpha), want)
    torch.testing.assert_close(
        Spectrum.dense(K).logdet(2.0, 0.1),
        torch.logdet(2 * K + 0.1 * torch.eye(15, dtype=F64)),
    )


def test_invalid_input_raises():
    K, y = problem(5, 1, 0)
    with pytest.raises(ValueError, match=r"K must give a square \(5, 5\) matrix"):
        Spectrum.dense(torch.ones(5, 4, dtype=F64))
    with pytest.raises(ValueError, match="K must be symmetric"):
        Spectrum.dense(K + torch.triu(torch.ones(5, 5, dtype=F64)))
    with pytest.raises(ValueError, match="K must be positive semi-definite: its smallest"):
        Spectrum.dense(K - 2 * torch.eye(5, dtype=F64))
    with pytest.raises(ValueError, match="K must be finite"):
        Spectrum.dense(K * math.nan)
    with pytest.raises(ValueError, match="one row for each of the 5 inputs, got 4"):
        Spectrum.dense(K, y[:4])
    with pytest.raises(TypeError, match="y must have the dtype .* got torch.float32"):
        Spectrum.dense(K, y.float())
    with pytest.raises(ValueError, match="noise must be positive and finite, got 0"):
        Spectrum.dense(K, y).evidence(1.0, 0)
    with pytest.raises(ValueError, match="built without targets"):
        Spectrum.dense(K).evidence(1.0, 1.0)
    with pytest.raises(ValueError, match="y must not be zero throughout"):
        Spectrum.dense(K, 0 * y).maximise()
    with pytest.raises(ValueError, match="K must have a non-zero entry"):
        Spectrum.dense(0 * K, y).maximise()

"""Tests of `bayesgen.spectrum.measures`."""

import pytest
import torch

from bayesgen import Spectrum
from bayesgen.spectrum.measures import SpectralMeasures
from tests.spectrum.problems import problem

F64 = torch.float64


def test_measures_alone_give_the_evidence_of_the_spectrum():
    K, y = problem(12, 2, 0)
    values, vectors = torch.linalg.eigh(K)
    spectrum = Spectrum.dense(K, y)
    order = spectrum.density.nodes.argsort()
    torch.testing.assert_close(spectrum.density.nodes[order].clamp(min=0), values.clamp(min=0))
    loads = (vectors.mT @ y).square().sum(-1)
    targets = spectrum.target_measure()
    found = targets.weights.reshape(-1)[targets.nodes.reshape(-1).argsort()]
    torch.testing.assert_close(found, loads, rtol=1e-6, atol=1e-8)
    assert isinstance(spectrum, SpectralMeasures)
    torch.testing.assert_close(spectrum.largest, values[-1])


def test_missing_targets_and_invalid_settings_raise():
    K, y = problem(5, 1, 0)
    with pytest.raises(ValueError, match="built without targets"):
        Spectrum.dense(K).target_measure()
    spectrum = Spectrum.dense(K, y)
    with pytest.raises(ValueError, match="scale must be positive"):
        spectrum.settings(0.0, 1.0)
    scale, noise = spectrum.settings(torch.ones(3, dtype=F64), 2.0)
    assert scale.shape == (3, 1)
    assert noise.shape == (1,)

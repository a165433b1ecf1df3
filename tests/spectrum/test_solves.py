"""Tests of `bayesgen.spectrum.solves`."""

import pytest
import torch

from bayesgen.spectrum.spectrum import Spectrum
from tests.helpers import noisy_waves, points, rbf_matrix
from tests.spectrum.problems import problem

F64 = torch.float64


def test_krylov_solves_match_dense_solves_of_every_task():
    x = points(500)
    K = rbf_matrix(x)
    y = torch.stack([noisy_waves(x), -noisy_waves(x) + 1])
    found = Spectrum.krylov(K, y, steps=12)
    alpha = found.solve(torch.tensor([1.0, 2.0], dtype=F64), torch.tensor([0.1, 0.3], dtype=F64))
    for b, (s, noise) in enumerate([(1.0, 0.1), (2.0, 0.3)]):
        A = s * K + noise * torch.eye(500, dtype=F64)
        torch.testing.assert_close(alpha[b], torch.linalg.solve(A, y[b]), rtol=1e-5, atol=1e-6)


def test_marginals_and_solves_match_dense_algebra():
    K, y = problem(14, 2, 3, batch=(2,))
    spectrum = Spectrum.dense(K, y)
    scale, noise = torch.tensor([0.7, 2.0], dtype=F64), torch.tensor([0.1, 0.5], dtype=F64)
    mean, variance = spectrum.marginals(scale, noise)
    alpha = spectrum.solve(scale, noise)
    for b in range(2):
        S = scale[b] * K
        A = S + noise[b] * torch.eye(14, dtype=F64)
        torch.testing.assert_close(alpha[b], torch.linalg.solve(A, y[b]))
        torch.testing.assert_close(mean[b], S @ torch.linalg.solve(A, y[b]))
        left = (S - S @ torch.linalg.solve(A, S)).diagonal()
        torch.testing.assert_close(variance[b, :, 0], left)
        one = spectrum.task(b)
        torch.testing.assert_close(one.solve(scale[b], noise[b]).reshape(14, 2), alpha[b])


def test_marginals_are_differentiable():
    K, y = problem(6, 1, 0)
    spectrum = Spectrum.dense(K + 0.1 * torch.eye(6, dtype=F64), y)
    logs = torch.tensor([0.2, -0.5], dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: spectrum.marginals(z[0].exp(), z[1].exp()), (logs,))


def test_spectra_without_targets_or_basis_raise():
    K, y = problem(6, 1, 0)
    with pytest.raises(ValueError, match="without targets"):
        Spectrum.dense(K).solve(1.0, 1.0)
    with pytest.raises(ValueError, match="spectrum"):
        Spectrum.lanczos(K, y).solve(1.0, 1.0)


def test_labelling_is_the_former_name_of_task():
    K, y = problem(8, 1, 0, (2,))
    spectrum = Spectrum.dense(K, y)
    with pytest.warns(DeprecationWarning, match=r"spectrum\.labelling\(b\) is now spectrum\.task"):
        old = spectrum.labelling(1)
    torch.testing.assert_close(old.targets.weights, spectrum.task(1).targets.weights)

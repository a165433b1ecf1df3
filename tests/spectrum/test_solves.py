"""Tests of `bayesgen.spectrum.solves`."""

import torch

from bayesgen.spectrum.spectrum import Spectrum
from tests.helpers import noisy_waves, points, rbf_matrix

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

"""Matrices and targets that the tests of spectra share."""

import torch

F64 = torch.float64


def problem(n, outputs, seed, batch=()):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, generator=generator, dtype=F64)
    K = torch.exp(-0.5 * torch.cdist(x, x) ** 2)
    K = 0.5 * (K + K.mT)
    y = torch.randn(*batch, n, outputs, generator=generator, dtype=F64)
    return K, y

"""Data that the tests of linear models share."""

import math

import torch

F64 = torch.float64


def data(n=40, seed=0, outputs=None, batch=()):
    g = torch.Generator().manual_seed(seed)
    x = 2 * torch.rand(n, generator=g, dtype=F64) - 1
    shape = (*batch, n) if outputs is None else (*batch, n, outputs)
    noise = 0.1 * torch.randn(shape, generator=g, dtype=F64)
    clean = x + torch.cos(math.pi * x)
    return x, noise + (clean if outputs is None else clean[:, None])

"""Data and networks that the tests of deep kernels share."""

import warnings

import gpytorch
import torch

import bayesgen as bg
from bayesgen.models.deep.objective import Head

F64 = torch.float64


RBF = gpytorch.kernels.RBFKernel


def wave(n=40, seed=3):
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 1, generator=g, dtype=F64) * 6 - 3
    return x, torch.sin(2 * x[:, 0]) + 0.3 * torch.randn(n, generator=g, dtype=F64)


def mlp(outputs=2, hidden=(12,)):
    torch.manual_seed(0)
    return bg.networks.MLP(1, hidden, outputs, activation="tanh").double()


def head(kernel=None):
    kernel = (RBF() if kernel is None else kernel).double()
    scale, noise = torch.tensor(1.3, dtype=F64), torch.tensor(0.2, dtype=F64)
    return Head(kernel, scale, noise, learn_noise=True, floor=0.0)


def quiet(model, x, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bg.NotAtModeWarning)
        return model.fit(x, y)

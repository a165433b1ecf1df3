"""Problems and functions that the tests of several rooms share."""

import math
import sys
import warnings

import gpytorch
import pytest
import torch

import bayesgen as bg
from bayesgen import cli

F64 = torch.float64


def points(n=400, d=2, seed=0, dtype=F64):
    return torch.rand(n, d, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


def rbf_matrix(x, lengthscale=0.3):
    return torch.exp(-0.5 * torch.cdist(x, x) ** 2 / lengthscale**2)


def noisy_waves(x, C=3):
    g = torch.Generator().manual_seed(9)
    waves = torch.stack([torch.sin((3 + c) * x.sum(1)) for c in range(C)], 1)
    return waves + 0.3 * torch.randn(len(x), C, generator=g, dtype=F64)


def scaled_rbf(lengthscale=1.0, scale=1.0):
    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel()).to(F64)
    kernel.base_kernel.lengthscale = torch.tensor(lengthscale, dtype=F64)
    kernel.outputscale = torch.tensor(scale, dtype=F64)
    return kernel


def rbf_kernel(lengthscale):
    kernel = gpytorch.kernels.RBFKernel().double()
    kernel.lengthscale = torch.tensor(lengthscale, dtype=torch.float64)
    return kernel


def run_command(monkeypatch, *arguments):
    """Exit status of `bayesgen ...` in this process."""
    monkeypatch.setattr(sys, "argv", ["bayesgen", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


def noisy_cosine(n=40, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = 2 * torch.rand(n, generator=g, dtype=F64) - 1
    return x, x + torch.cos(math.pi * x) + 0.1 * torch.randn(n, generator=g, dtype=F64)


def network_problem(name="softmax", n=30, hidden=6, seed=0):
    """Inputs, labels and a network near a mode of its log posterior."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=g, dtype=F64)
    score = x[:, 0] + 0.5 * torch.randn(n, generator=g, dtype=F64)
    y = {
        "softmax": (score > -0.5).long() + (score > 0.5).long(),
        "bernoulli": (score > 0).long(),
        "poisson": torch.poisson(torch.exp(0.5 * score), generator=g),
        "gaussian": score,
    }[name]
    torch.manual_seed(seed)
    net = bg.networks.MLP(
        3, (hidden,) if hidden else (), 3 if name == "softmax" else 1, activation="tanh"
    )
    net = net.double()
    bg.train(
        net, x, y, name, epochs=400, batch=None, optimiser="adam", learning_rate=0.02,
        prior_precision=1.0,
    )  # fmt: skip
    return net, x, y


def fixed_laplace(net, name="softmax", precision=1.0, **settings):
    noise = 1.0 if name == "gaussian" else None
    return bg.Laplace(net, name, precision, noise, **{"hyperparameters": "fixed"} | settings)


def fit_quietly(model, *data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bg.NotAtModeWarning)
        return model.fit(*data)

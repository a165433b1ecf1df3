"""Inputs, targets and fits that the tests of latent models share."""

import gpytorch
import torch

import bayesgen as bg

F64 = torch.float64


def inputs(n=40, seed=0):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=F64)


def targets(name, x):
    g = torch.Generator().manual_seed(1)
    if name == "bernoulli":
        return (x[:, 0] + 0.5 * torch.randn(len(x), generator=g, dtype=F64) > 0).long()
    if name == "softmax":
        return (x[:, 0] > 0).long() + (x[:, 1] > 0.5).long()
    if name == "poisson":
        return torch.poisson(torch.exp(1 + x[:, 0]), generator=g)
    y = torch.sin(2 * x[:, 0]) + 0.2 * torch.randn(len(x), generator=g, dtype=F64)
    y[::7] += 4
    return y


def fixed(name, x, y, lengthscale=1.0, scale=2.0):
    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel().double()).double()
    kernel.outputscale = torch.tensor(scale, dtype=F64)
    kernel.base_kernel.lengthscale = torch.tensor(lengthscale, dtype=F64)
    model = bg.GaussianProcess(kernel, likelihood=name, hyperparameters="fixed")
    return model.fit(x, y)


NAMES = ["bernoulli", "softmax", "poisson", "student-t"]

"""The same model in GPyTorch, as fast as its own parts allow.

`ExactMarginalLogLikelihood` repeats the covariance for every output. Here all outputs share one
Cholesky factorisation instead, which is the best a GPyTorch user could write: the comparison is on
the generous side.
"""

from __future__ import annotations

import math

import gpytorch
import torch
from botorch.models.gpytorch import GPyTorchModel
from torch import Tensor


class SharedOutputs(gpytorch.mlls.ExactMarginalLogLikelihood):
    """log p(Y) / n for targets (n, C) under one covariance."""

    def forward(self, function_dist, target, *args, **kwargs):  # noqa: D102
        marginal = self.likelihood(function_dist)
        n, outputs = target.shape
        right = target - marginal.mean[:, None]
        quadratic, logdet = marginal.lazy_covariance_matrix.inv_quad_logdet(right, logdet=True)
        total = -0.5 * (quadratic + outputs * (logdet + n * math.log(2 * math.pi)))
        return total / n


class ScaledRBF(gpytorch.models.ExactGP, GPyTorchModel):
    """Zero mean, scaled RBF kernel, Gaussian noise."""

    _num_outputs = 1  # what botorch asks of a model; the outputs are the targets' columns here

    def __init__(self, x: Tensor, y: Tensor) -> None:
        super().__init__(x, y, gpytorch.likelihoods.GaussianLikelihood())
        self.mean = gpytorch.means.ZeroMean()
        self.kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())
        self.to(x)

    def forward(self, x: Tensor) -> gpytorch.distributions.MultivariateNormal:  # noqa: D102
        return gpytorch.distributions.MultivariateNormal(self.mean(x), self.kernel(x))

    def at(self, lengthscale: float, scale: float, noise: float) -> ScaledRBF:
        """The model with these hyperparameters."""
        x = self.train_inputs[0]  # as tensors: Python floats would be rounded to float32
        self.kernel.base_kernel.lengthscale = x.new_tensor(lengthscale)
        self.kernel.outputscale = x.new_tensor(scale)
        self.likelihood.noise = x.new_tensor(noise)
        return self


def cholesky_always() -> gpytorch.settings.max_cholesky_size:
    """GPyTorch's exact path, whatever the size."""
    return gpytorch.settings.max_cholesky_size(1_000_000)


def value_and_gradient(model: ScaledRBF) -> float:
    """One evaluation with its backward pass: log p(Y) in nats."""
    model.train()
    model.zero_grad()
    loss = SharedOutputs(model.likelihood, model)
    with cholesky_always():
        value = loss(model(*model.train_inputs), model.train_targets)
        value.backward()
    return float(value.detach()) * len(model.train_targets)


def value(model: ScaledRBF) -> float:
    """log p(Y) in nats."""
    model.train()
    with cholesky_always(), torch.no_grad():
        result = SharedOutputs(model.likelihood, model)(
            model(*model.train_inputs), model.train_targets
        )
    return float(result) * len(model.train_targets)

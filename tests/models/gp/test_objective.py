"""Tests of `bayesgen.models.gp.objective`."""

import gpytorch
import pytest
import torch
from torch.autograd import gradcheck

from bayesgen.covariance.gram import gram
from bayesgen.models.gp.objective import LogMarginalLikelihood

F64 = torch.float64


def inputs(n=12, d=3, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=F64)


@pytest.mark.parametrize(
    "kernel",
    [
        gpytorch.kernels.RBFKernel(),
        gpytorch.kernels.RBFKernel(ard_num_dims=3),
        gpytorch.kernels.RBFKernel() + gpytorch.kernels.LinearKernel(),
        gpytorch.kernels.PeriodicKernel(),
    ],
    ids=lambda k: type(k).__name__,
)
@pytest.mark.parametrize("per_point", [False, True])
def test_gradient_matches_differences(kernel, per_point):
    x = inputs()
    y = inputs(12, 2, seed=4)
    objective = LogMarginalLikelihood(gram(kernel.to(F64), x), y)
    theta = objective.gram.start()
    noise = 0.1 + torch.rand(12, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    noise = noise if per_point else torch.tensor(0.3, dtype=F64)

    class Wrapped(torch.autograd.Function):
        @staticmethod
        def forward(ctx, theta, log_scale, log_factor):
            at = objective(theta, log_scale.exp(), noise * log_factor.exp())
            ctx.gradient = (at.kernel, at.log_scale, at.log_noise)
            return at.value

        @staticmethod
        def backward(ctx, weight):
            return tuple(weight * g for g in ctx.gradient)

    logs = [torch.tensor(v, dtype=F64, requires_grad=True) for v in (0.2, -0.1)]
    assert gradcheck(Wrapped.apply, (theta.clone().requires_grad_(), *logs))

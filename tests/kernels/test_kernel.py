"""Tests of `bayesgen.kernels.kernel` and `bayesgen.kernels.functions`."""

import gpytorch
import pytest
import torch

from bayesgen import kernels

F64 = torch.float64


def inputs(n=12, d=3, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=F64)


def test_resolve_copies_kernel_and_splits_outputscale():
    base = gpytorch.kernels.RBFKernel()
    kernel = gpytorch.kernels.ScaleKernel(base)
    kernel.outputscale = 3.0
    copy, scale, free = kernels.resolve(kernel, torch.zeros(3, 1, dtype=F64))
    assert free
    assert copy is not base
    assert copy.raw_lengthscale.dtype == F64
    assert base.raw_lengthscale.dtype == torch.float32
    assert scale.item() == pytest.approx(3.0, rel=1e-6)
    with pytest.raises(TypeError, match="kernel must be a gpytorch"):
        kernels.resolve("rbf", torch.zeros(3, 1))
    with pytest.raises(ValueError, match="kernel must be one of 'rbf', 'matern12'"):
        kernels.named("cosine")
    with pytest.raises(TypeError, match="function must be a callable"):
        kernels.stationary(1)


def test_function_kernel_diagonal_matches_matrix():
    kernel = kernels.FunctionKernel(lambda a, b: a @ b.mT)
    x = inputs(1000, 2)
    torch.testing.assert_close(kernel(x, diag=True), x.square().sum(1))


def test_parameters_without_a_transformation_are_moved_into_their_constraint():
    limits = gpytorch.constraints.Interval(0.2, 0.3, transform=None, initial_value=0.25)
    plain = gpytorch.kernels.RBFKernel(lengthscale_constraint=limits)
    kernel = plain + gpytorch.kernels.RBFKernel()
    with torch.no_grad():
        for part in kernel.kernels:
            part.raw_lengthscale.fill_(7.0)
    kernels.keep_constraints(kernel)
    assert plain.lengthscale.item() == pytest.approx(0.3)
    assert kernel.kernels[1].raw_lengthscale.item() == 7.0

"""Tests of `bayesgen.models.gp.gradient_search`."""

import gpytorch
import pytest
import torch

from bayesgen import GaussianProcess, kernels


def test_gradient_search_agrees_with_lengthscale_search(regression):
    """The optimum over two length-scales has at least the evidence of that over one."""
    x, ys = regression
    isotropic = GaussianProcess(gpytorch.kernels.RBFKernel(), tolerance=1e-7).fit(x, ys[1])
    ard = GaussianProcess(gpytorch.kernels.RBFKernel(ard_num_dims=2)).fit(x, ys[1])
    assert ard.lengthscale.shape == (1, 2)
    assert ard.evidence.log_marginal_likelihood >= isotropic.evidence.log_marginal_likelihood
    kernel = gpytorch.kernels.RBFKernel(ard_num_dims=1)
    one = GaussianProcess(kernel, tolerance=1e-7).fit(x[:, :1], ys[1, :, :1])
    column = kernels.named("rbf")
    spectra = GaussianProcess(column, tolerance=1e-7).fit(x[:, :1], ys[1, :, :1])
    gap = one.evidence.log_marginal_likelihood - spectra.evidence.log_marginal_likelihood
    assert abs(gap.item()) < 1e-3


def test_composite_kernel_fits_many_tasks(regression):
    x, ys = regression
    kernel = gpytorch.kernels.RBFKernel() + gpytorch.kernels.LinearKernel()
    seen = []
    posterior = GaussianProcess(kernel).fit(x, ys, progress=lambda *a: seen.append(a))
    assert posterior.evidence.batch_shape == (3,)
    assert seen
    assert len(posterior.kernels) == 3
    assert torch.isfinite(posterior.predict(x[:4]).stddev).all()
    plain = GaussianProcess(kernels.named("rbf")).fit(x, ys)
    gain = posterior.evidence.log_marginal_likelihood - plain.evidence.log_marginal_likelihood
    assert (gain > -0.05).all()
    with pytest.raises(AttributeError, match="has no length-scale of its own"):
        _ = posterior.lengthscale

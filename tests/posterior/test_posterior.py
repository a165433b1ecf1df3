"""Tests of `bayesgen.posterior.posterior`."""

import gpytorch
import torch

import bayesgen as bg
from tests.helpers import noisy_cosine


def test_latent_samples_have_moments_of_marginals():
    x, y = noisy_cosine(15)
    for posterior in (
        bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit(x, y),
        bg.GaussianProcess(gpytorch.kernels.RBFKernel(), likelihood="softmax").fit(
            x, (y > 0).long()
        ),
    ):
        mean, variance = posterior.marginals()
        if variance.ndim == 3:
            variance = variance.diagonal(dim1=-2, dim2=-1)
        draws = posterior.latent_samples(20_000)
        size = float(variance.max()) ** 0.5
        torch.testing.assert_close(draws.mean(0), mean, atol=0.04 * size, rtol=0)
        torch.testing.assert_close(draws.var(0), variance, atol=0.06 * size**2, rtol=0)

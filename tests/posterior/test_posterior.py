"""Tests of `bayesgen.posterior.posterior`."""

import gpytorch
import pytest
import torch

import bayesgen as bg
from bayesgen.likelihoods import Bernoulli
from bayesgen.posterior.posterior import Observed
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


@pytest.mark.parametrize(
    ("shape", "inner", "batched"),
    [((5,), (1, 5, 1), False), ((5, 2), (1, 5, 2), False), ((3, 5, 2), (3, 5, 2), True)],
)
def test_real_targets_are_laid_out_by_task(shape, inner, batched):
    y = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    observed = Observed.real(y)
    assert observed.y.shape == inner
    assert observed.batched == batched
    assert observed.n == 5
    one = observed[0]
    assert not one.batched
    assert torch.equal(one.y[0], observed.y[0])
    assert len(observed.fingerprint()) == inner[0]


def test_fingerprints_tell_data_apart_and_not_their_dtype_of_storage():
    y = torch.tensor([0.0, 1.0, 1.0])
    base = Observed.real(y).fingerprint()
    assert torch.equal(base, Observed.real(y.double()).fingerprint())
    assert base != Observed.real(y.flip(0)).fingerprint()
    labels = Observed(y.reshape(1, 3, 1), y.shape, False, Bernoulli())
    assert base != labels.fingerprint()
    assert base != 0


def test_one_task_of_a_batch_is_as_if_fitted_alone():
    x = torch.linspace(-1, 1, 15, dtype=torch.float64)
    y = torch.stack([torch.sin(3 * x), torch.cos(2 * x)])[..., None]
    for model in (
        bg.Polynomial(3, noise=0.1, hyperparameters="fixed"),
        bg.GaussianProcess(gpytorch.kernels.RBFKernel(), 0.1, hyperparameters="fixed"),
    ):
        batch, alone = model.fit(x, y), model.fit(x, y[1])
        one = batch.task(1)
        assert one.evidence.batch_shape == ()
        torch.testing.assert_close(
            one.evidence.log_marginal_likelihood, alone.evidence.log_marginal_likelihood
        )
        torch.testing.assert_close(one.mean(x[:4]), alone.mean(x[:4]))
        assert one.evidence.log_bayes_factor(alone.evidence).abs() < 1e-8
        for bad in (2, -1, True):
            with pytest.raises(ValueError, match=r"task must be an integer in 0\.\.1"):
                batch.task(bad)


def test_log_likelihood_of_rows_is_the_normal_density():
    x, y = noisy_cosine(10)
    posterior = bg.Polynomial(2, noise=0.2, hyperparameters="fixed").fit(x, y)
    f = torch.zeros(4, 10, 1, dtype=torch.float64)
    want = torch.distributions.Normal(0.0, 0.2**0.5).log_prob(y)
    torch.testing.assert_close(posterior.log_likelihood(f), want.expand(4, 10).to(f))

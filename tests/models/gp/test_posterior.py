"""Tests of `bayesgen.models.gp.posterior`."""

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor, kernels as sk

from bayesgen import GaussianProcess, kernels
from tests.helpers import scaled_rbf

F64 = torch.float64


@pytest.mark.parametrize("shape", ["n", "nC", "BnC"])
def test_shapes_and_predictions_match_scikit_learn(regression, shape):
    x, ys = regression
    y = {"n": ys[0, :, 0], "nC": ys[0], "BnC": ys}[shape]
    x_new = torch.rand(7, 2, dtype=F64, generator=torch.Generator().manual_seed(5))
    posterior = GaussianProcess(scaled_rbf(0.4, 1.5), 0.05, hyperparameters="fixed").fit(x, y)
    assert posterior.evidence.batch_shape == (() if shape != "BnC" else (3,))
    predicted = posterior.predict(x_new)
    joint = posterior.joint(x_new, latent=True)
    reference = GaussianProcessRegressor(
        sk.ConstantKernel(1.5) * sk.RBF(0.4), alpha=0.05, optimizer=None
    )
    columns = y.reshape(-1, 40, 1 if shape == "n" else 2)
    for b in range(len(columns)):
        for c in range(columns.shape[-1]):
            mean, cov = reference.fit(x.numpy(), columns[b, :, c].numpy()).predict(
                x_new.numpy(), return_cov=True
            )
            at = {"n": (), "nC": (slice(None), c), "BnC": (b, slice(None), c)}[shape]
            np.testing.assert_allclose(predicted.mean[at], mean, rtol=1e-8, atol=1e-10)
            np.testing.assert_allclose(predicted.variance[at], np.diag(cov) + 0.05, rtol=1e-8)
            which = {"n": (), "nC": (c,), "BnC": (b, c)}[shape]
            np.testing.assert_allclose(joint.covariance_matrix[which], cov, rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(joint.mean[which], mean, rtol=1e-8, atol=1e-10)
    assert posterior.fitted().shape == y.shape
    torch.testing.assert_close(posterior.fitted(), posterior.mean(x), rtol=1e-8, atol=1e-10)
    latent = posterior.predict(x_new, latent=True)
    torch.testing.assert_close(
        predicted.variance - latent.variance, torch.full_like(latent.mean, 0.05)
    )


def test_prior_mean_shifts_predictions_and_keeps_evidence(regression):
    x, ys = regression
    y = ys[0] + 3
    gp = {"noise": 0.1, "hyperparameters": "fixed"}
    shifted = GaussianProcess(scaled_rbf(), mean=3.0, **gp).fit(x, y)
    plain = GaussianProcess(scaled_rbf(), **gp).fit(x, ys[0])
    torch.testing.assert_close(
        shifted.evidence.log_marginal_likelihood, plain.evidence.log_marginal_likelihood
    )
    torch.testing.assert_close(shifted.mean(x[:5]), plain.mean(x[:5]) + 3)
    torch.testing.assert_close(shifted.fitted(), plain.fitted() + 3)
    by_output = GaussianProcess(scaled_rbf(), mean=torch.tensor([3.0, 3.0], dtype=F64), **gp).fit(
        x, y
    )
    function = GaussianProcess(scaled_rbf(), mean=lambda v: v.new_full((len(v),), 3.0), **gp).fit(
        x, y
    )
    for other in (by_output, function):
        torch.testing.assert_close(other.mean(x[:5]), shifted.mean(x[:5]))


@pytest.mark.parametrize("shape", ["n", "nC", "BnC"])
def test_noise_per_point_matches_dense_algebra(regression, shape):
    x, ys = regression
    generator = torch.Generator().manual_seed(2)
    full = 0.05 + torch.rand(3, 40, 2, generator=generator, dtype=F64)
    noise = {"n": full[0, :, 0], "nC": full[0], "BnC": full}[shape]
    spread = {"n": noise[None, :, None], "nC": noise[None], "BnC": noise}[shape].expand(3, 40, 2)
    posterior = GaussianProcess(scaled_rbf(0.5), noise, hyperparameters="fixed").fit(x, ys)
    K = scaled_rbf(0.5)(x).to_dense().detach()
    new = x[:4] + 0.1
    cross = scaled_rbf(0.5)(new, x).to_dense().detach()
    for b in range(3):
        want = 0.0
        for c in range(2):
            cov = K + spread[b, :, c].diag()
            normal = torch.distributions.MultivariateNormal(torch.zeros(40, dtype=F64), cov)
            want += normal.log_prob(ys[b, :, c]).item()
            weights = torch.linalg.solve(cov, ys[b, :, c])
            torch.testing.assert_close(posterior.mean(new)[b, :, c], cross @ weights)
            reduced = 1 - (cross @ torch.linalg.solve(cov, cross.mT)).diagonal()
            predicted = posterior.predict(new, latent=True)
            torch.testing.assert_close(predicted.variance[b, :, c], reduced)
        assert posterior.evidence.log_marginal_likelihood[b].item() == pytest.approx(want, rel=1e-9)
    torch.testing.assert_close(posterior.fitted(), posterior.mean(x))
    learnt = GaussianProcess(kernels.named("rbf"), noise).fit(x, ys)
    gain = learnt.evidence.log_marginal_likelihood - posterior.evidence.log_marginal_likelihood
    assert (gain > 0).all()
    with pytest.raises(ValueError, match="latent must be True"):
        posterior.predict(new)

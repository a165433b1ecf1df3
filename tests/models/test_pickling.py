"""Tests of `bayesgen.models.reporting`: posteriors can be copied and saved."""

import copy
import io
import pickle

import gpytorch
import pytest
import torch

import bayesgen as bg

F64 = torch.float64
RBF = gpytorch.kernels.RBFKernel


def data():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(24, 2, generator=g, dtype=F64)
    return x, torch.sin(4 * x[:, 0]) + 0.1 * torch.randn(24, generator=g, dtype=F64)


def gp(kernel, **settings):
    return bg.GaussianProcess(kernel, starts=1, **settings).fit(*data())


def of_labels(model):
    x, y = data()
    return model.fit(x, (y > 0).long())


def batch(kernel):
    x, y = data()
    return bg.GaussianProcess(kernel).fit_batch(torch.stack([x, x + 0.1]), torch.stack([y, -y]))


def linear(basis=None, **settings):
    return bg.LinearModel(basis, **settings).fit(*data())


MADE = {
    "gp": lambda: gp(RBF()),
    "gp of a sum": lambda: gp(RBF() + gpytorch.kernels.LinearKernel()),
    "gp by cholesky": lambda: gp(RBF(), engine="cholesky"),
    "gp with a mean": lambda: gp(RBF(), mean=gpytorch.means.ConstantMean()),
    "gp of labels": lambda: of_labels(bg.GaussianProcess(RBF(), likelihood="bernoulli", starts=1)),
    "batch": lambda: batch(RBF()),
    "batch of Matérn": lambda: batch(gpytorch.kernels.MaternKernel(nu=1.5)),
    "batch of RQ": lambda: batch(gpytorch.kernels.RQKernel()),
    "linear": linear,
    "linear of labels": lambda: of_labels(bg.LinearModel(likelihood="bernoulli")),
    "polynomial": lambda: linear(bg.bases.Polynomial(2, kind="legendre")),
    "fourier": lambda: linear(bg.bases.Fourier(2)),
    "cosines": lambda: linear(bg.bases.RandomFeatures(5)),
    "rectifiers": lambda: linear(bg.bases.RandomFeatures(5, activation="relu")),
    "geometric": lambda: linear(bg.bases.Polynomial(2), prior_variance=bg.priors.geometric(2.0)),
    "power": lambda: linear(bg.bases.Polynomial(2), prior_variance=bg.priors.power(1.0)),
    "given": lambda: linear(prior_variance=torch.tensor([1.0, 2.0])),
}


def predicted(posterior, x):
    x = torch.stack([x, x]) if isinstance(posterior, bg.BatchPosterior) else x
    found = posterior.predict(x, latent=True)
    return torch.cat([found.mean.reshape(-1), found.stddev.reshape(-1)])


@pytest.mark.parametrize("name", MADE)
def test_a_copy_predicts_the_same(name):
    posterior, x = MADE[name](), data()[0][:5]
    file = io.BytesIO()
    for used in (False, True):
        copies = [pickle.loads(pickle.dumps(posterior)), copy.deepcopy(posterior)]
        if used:
            torch.save(posterior, file)
            file.seek(0)
            copies.append(torch.load(file, weights_only=False))
        want = predicted(posterior, x)
        for other in copies:
            assert torch.equal(predicted(other, x), want)
            assert torch.equal(
                other.evidence.log_marginal_likelihood, posterior.evidence.log_marginal_likelihood
            )

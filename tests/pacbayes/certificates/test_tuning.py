"""Tests of `bayesgen.pacbayes.certificates.tuning`."""

import gpytorch
import pytest
import torch

import bayesgen as bg
from bayesgen.spectrum.spectrum import Spectrum
from tests.helpers import rbf_kernel


def test_tuning_minimises_bound_over_scale_and_noise(digits, parity):
    posterior = bg.GaussianProcess(rbf_kernel(2.0), hyperparameters=("scale", "noise")).fit(
        digits.x_train, parity
    )
    made = posterior.certificate()
    assert made.bound < posterior.certificate(noise="keep").bound
    s, noise = made.settings["scale"], made.settings["noise"]
    for scale in (0.8, 1.0, 1.25):
        for ratio in (0.8, 1.25):
            other = posterior.at(scale=s * scale, noise=noise * ratio * scale)
            assert other.certificate(noise="keep").bound >= made.bound - 1e-6
    assert made.posterior.certificate(noise="keep").bound == pytest.approx(made.bound, abs=1e-9)


def test_common_scaling_of_prior_and_posterior_keeps_bound(digits, parity):
    """The outputscale is free because f and 3f have the same signs and the same KL."""
    posterior = bg.GaussianProcess(rbf_kernel(2.0), 0.3, hyperparameters="fixed").fit(
        digits.x_train, parity
    )
    tripled = bg.GaussianProcess(
        gpytorch.kernels.ScaleKernel(rbf_kernel(2.0)), 0.3 * 9, hyperparameters="fixed"
    )
    tripled.kernel.double().outputscale = torch.tensor(9.0, dtype=torch.float64)
    other = tripled.fit(digits.x_train, 3 * parity)
    assert other.certificate().bound == pytest.approx(posterior.certificate().bound, abs=1e-9)


def test_dropping_sum_of_outputs_keeps_risk_and_lowers_kl(digits, one_hot):
    gp = bg.GaussianProcess(rbf_kernel(2.0), hyperparameters=("scale", "noise"))
    made = gp.fit(digits.x_train, one_hot).certificate()
    kept = made.posterior.certificate(noise="keep")
    assert made.risk == pytest.approx(kept.risk, abs=1e-10)
    # The sum has targets 0: what it costs is the covariance's share of one output.
    zero = Spectrum.dense(made.posterior._gram.matrix(made.posterior._theta[0]), one_hot.sum(1))
    at = (made.settings["scale"], made.settings["noise"])
    dropped = float(zero.evidence(*at).complexity)
    assert made.complexity == pytest.approx(kept.complexity - dropped, rel=1e-8)

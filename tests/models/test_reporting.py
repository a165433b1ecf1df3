"""Tests of `bayesgen.models.reporting`."""

import gpytorch
import pytest
import torch

import bayesgen as bg
from bayesgen.models.reporting import Certified, Reporting
from bayesgen.pacbayes import gibbs
from bayesgen.pacbayes.certificates.posterior import CertificateOptions, certify_posterior

X = torch.linspace(-1, 1, 30, dtype=torch.float64)
LABELS = (torch.sin(3 * X) > 0).long()


@pytest.fixture(params=["gp", "linear", "laplace"])
def posterior(request):
    signs = 2.0 * LABELS.double() - 1
    if request.param == "linear":
        model = bg.Polynomial(4, kind="legendre", input_range=(-1.0, 1.0), hyperparameters="noise")
        return model.fit(X, signs)
    kernel = gpytorch.kernels.RBFKernel()
    if request.param == "gp":
        return bg.GaussianProcess(kernel, 0.5, hyperparameters="fixed").fit(X, signs)
    return bg.GaussianProcess(kernel, likelihood="bernoulli", hyperparameters="fixed").fit(
        X, LABELS
    )


def test_reports_equal_the_functions_they_call(posterior):
    assert isinstance(posterior, Certified)
    assert posterior.gibbs_risk(0.5) == gibbs.gibbs_risk(posterior, 0.5)
    found = posterior.certificate(0.1)
    assert found.delta <= 0.1
    assert found.risk < found.bound
    options = CertificateOptions(0.1, "zero_one", "maurer", "gibbs", None, None, None, None)
    again = certify_posterior(posterior, options, None)
    assert again.bound == found.bound


def test_only_certified_posteriors_have_certificates():
    net = torch.nn.Linear(1, 2).double()
    posterior = bg.Laplace(net, mode="tangent").fit(X[:, None], LABELS)
    assert isinstance(posterior, Reporting)
    assert not isinstance(posterior, Certified)
    assert 0 <= posterior.gibbs_risk() <= 1

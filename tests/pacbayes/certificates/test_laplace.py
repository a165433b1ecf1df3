"""Tests of `bayesgen.pacbayes.certificates.laplace`."""

import pytest

import bayesgen as bg
from tests.helpers import rbf_kernel


def test_laplace_posteriors_have_certificates(digits):
    labels = digits.y_train % 2
    fixed = bg.GaussianProcess(rbf_kernel(2.0), likelihood="bernoulli", hyperparameters=("scale",))
    posterior = fixed.fit(digits.x_train, labels)
    made = posterior.certificate()
    assert made.risk == pytest.approx(posterior.gibbs_risk())
    assert made.complexity == pytest.approx(float(posterior.evidence.complexity), rel=1e-6)
    with pytest.raises(ValueError, match="but kernel was learnt from the data"):
        bg.GaussianProcess(rbf_kernel(2.0), likelihood="bernoulli").fit(
            digits.x_train, labels
        ).certificate()
    soft = bg.GaussianProcess(rbf_kernel(2.0), likelihood="softmax", hyperparameters="fixed")
    made = soft.fit(digits.x_train[:60], digits.y_train[:60]).certificate()
    assert "probability 1 − δ/2" in str(made)
    assert made.risk < made.bound

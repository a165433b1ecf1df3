"""Tests of `bayesgen.pacbayes.certificates.request`."""

import pytest

import bayesgen as bg
from tests.helpers import rbf_kernel


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.certificate(delta=0.0), r"delta must lie in \(0, 1\)"),
        (lambda p: p.certificate(loss="hinge"), "loss must be one of"),
        (lambda p: p.certificate(bound="pinsker"), "bound must be one of"),
        (lambda p: p.certificate(predictor="best"), "predictor must be one of"),
        (lambda p: p.certificate(noise="learn"), "noise must be one of"),
        (lambda p: p.certificate(grid={"period": [1.0]}), "grid must be one of"),
        (lambda p: p.certificate(grid={"lengthscale": []}), "must hold positive numbers"),
        (lambda p: p.certificate(clip=2.0), "clip is for the losses"),
        (lambda p: p.certificate(subgamma=(1.0, 0.1)), "subgamma is for"),
        (lambda p: p.certificate(loss="nll", clip=3.0), r"clip must be a range \(a, b\)"),
        (lambda p: p.certificate(loss="squared", clip=-3.0), "clip must be positive"),
    ],
)
def test_invalid_requests_raise(digits, parity, call, message):
    posterior = bg.GaussianProcess(rbf_kernel(2.0), 0.1, hyperparameters="fixed").fit(
        digits.x_train, parity
    )
    with pytest.raises(ValueError, match=message):
        call(posterior)

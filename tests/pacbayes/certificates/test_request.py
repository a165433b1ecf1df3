"""Tests of `bayesgen.pacbayes.certificates.request`."""

import pytest
import torch

import bayesgen as bg
from bayesgen import pacbayes
from bayesgen.pacbayes.certificates.certificate import Payment
from bayesgen.pacbayes.certificates.request import THEOREMS, CertificateTerms, terms
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
        (lambda p: p.certificate(grid={"lengthscale": None}), 'must hold numbers or be "geom'),
        (lambda p: p.certificate(grid={"lengthscale": 1.0}), 'must hold numbers or be "geom'),
        (lambda p: p.certificate(grid={"lengthscale": ["a", "b"]}), 'must hold numbers or be "geo'),
        (
            lambda p: p.certificate(grid={"lengthscale": {1.0: "a", 2.0: 0.5}}),
            "must hold numbers or be ",
        ),
        (lambda p: p.certificate(grid={"lengthscale": [0.0, 1.0]}), "must hold positive numbers"),
        (lambda p: p.certificate(grid={"lengthscale": [1.0]}), "must hold at least two values"),
        (lambda p: p.certificate(loss="nll", clip=("a", "b")), r"clip must be \(a, b\)"),
        (lambda p: p.certificate(loss="nll", clip=(1, 0)), r"clip must be \(a, b\)"),
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


@pytest.mark.parametrize("name", list(THEOREMS))
def test_bound_of_terms_is_the_theorem_with_payments(name):
    kept = terms(0.1, name, "gibbs")
    paid = CertificateTerms(0.1, kept.theorem, "gibbs", (Payment("a", 1.5), Payment("b", 0.5)))
    assert paid.paid == 2.0
    risk, kl = torch.tensor(0.2, dtype=torch.float64), torch.tensor(3.0, dtype=torch.float64)
    want = getattr(pacbayes, name)(risk, kl + 2.0, 100, delta=0.1)
    torch.testing.assert_close(paid.bound(100)(risk, kl), want)
    assert paid.bound(100)(risk, kl) > kept.bound(100)(risk, kl)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.0, "maurer", "gibbs"), r"delta must lie in \(0, 1\)"),
        ((0.1, "pinsker", "gibbs"), "bound must be one of"),
        ((0.1, "maurer", "best"), "predictor must be one of"),
    ],
)
def test_invalid_terms_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        terms(*arguments)

"""Tests of `bayesgen.pacbayes.certificates.assemble`."""

import pytest

import bayesgen as bg
from bayesgen import pacbayes
from bayesgen.evidence import Evidence
from bayesgen.pacbayes import expected_losses
from bayesgen.pacbayes.certificates.assemble import sure_complexity
from bayesgen.pacbayes.certificates.request import THEOREMS
from tests.helpers import rbf_kernel


def test_kept_posterior_pays_complexity_of_its_evidence(digits, one_hot):
    gp = bg.GaussianProcess(rbf_kernel(2.0), 0.3, hyperparameters="fixed").fit(
        digits.x_train, one_hot
    )
    made = gp.certificate(delta=0.1)
    mean, variance = gp.marginals()
    risk = float(expected_losses.zero_one(mean, variance, digits.y_train).mean())
    kl = float(gp.evidence.complexity)
    assert made.risk == pytest.approx(risk)
    assert made.complexity == pytest.approx(kl)
    assert made.bound == pytest.approx(float(pacbayes.maurer(risk, kl, 200, 0.1)))
    assert made.posterior is gp
    draws = gp.latent_samples(500)
    assert made.risk == pytest.approx(
        float((draws.argmax(-1) != digits.y_train).double().mean()), abs=5e-3
    )


@pytest.mark.parametrize("bound", list(THEOREMS))
def test_every_bound_lies_between_risk_and_one(digits, parity, bound):
    gp = bg.GaussianProcess(rbf_kernel(2.0), hyperparameters=("scale", "noise"))
    made = gp.fit(digits.x_train, parity).certificate(bound=bound)
    assert made.risk < made.bound <= 1
    assert made.guessing == 0.5


def test_uncertain_evidence_enters_at_upper_end_or_raises():
    exact = Evidence(-10.0, 5.0, 100, 1.0, error=1e-9)
    assert sure_complexity(exact, 0.05) == (5.0 + 1e-9, 0.05, ())
    rough = Evidence(-10.0, 5.0, 100, 1.0, error=0.2)
    kl, delta, notes = sure_complexity(rough, 0.05)
    assert kl == pytest.approx(5.0 + 0.2 * 2.5758, abs=1e-3)
    assert delta == pytest.approx(0.045)
    assert "upper end" in notes[0]
    with pytest.raises(ValueError, match="error of the evidence must be at most"):
        sure_complexity(Evidence(-10.0, 5.0, 100, 1.0, error=1.0), 0.05)
    small, _, _ = sure_complexity(Evidence(-10.0, 0.01, 100, 1.0, error=0.05), 0.05)
    assert 0.01 + 0.05 < small < 0.2  # an error below a tenth of a nat is covered, not refused

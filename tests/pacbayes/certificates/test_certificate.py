"""Tests of `bayesgen.pacbayes.certificates.certificate`."""

import dataclasses

import pytest

import bayesgen as bg
from bayesgen import pacbayes
from bayesgen.pacbayes.certificates.certificate import Certificate, OracleBound, Payment
from tests.helpers import rbf_kernel


def test_text_states_what_is_bounded_and_paid(digits, parity):
    models = [bg.GaussianProcess(rbf_kernel(v)) for v in (1.0, 2.0)]
    story = str(pacbayes.certify(models, digits.x_train, parity, delta=0.01))
    for part in (
        "at least 0.99",
        "200 observations",
        "KL(Q‖P)",
        "2 priors stated beforehand",
        "adds nothing to the bound",
        "Maurer",
        "guessing has a risk of 0.5",
    ):
        assert part in story


@pytest.fixture
def statement():
    return Certificate(
        bound=0.3, risk=0.1, complexity=20.0, delta=0.05, n=1_500, loss="0–1 loss",
        predictor="gibbs", theorem="A theorem", payments=(Payment("the choice", 1.5),),
        guessing=0.5, settings={"noise": 0.25},
    )  # fmt: skip


def test_paid_nats_are_kl_and_payments(statement):
    assert statement.paid == 21.5
    assert dataclasses.replace(statement, payments=()).paid == 20.0


@pytest.mark.parametrize(
    ("bound", "guessing", "vacuous", "words"),
    [(0.3, 0.5, False, "Not vacuous"), (0.5, 0.5, True, "Vacuous"), (0.9, None, None, "")],
)
def test_bound_no_better_than_guessing_is_vacuous(statement, bound, guessing, vacuous, words):
    made = dataclasses.replace(statement, bound=bound, guessing=guessing)
    assert made.vacuous is vacuous
    assert ("acuous" in str(made)) == bool(words)
    assert words in str(made)


def test_text_states_every_number(statement):
    for part in ("0.95", "1,500 observations", "0.3000", "20.0 nats", "1.5 nats for the choice",
                 "A theorem", "noise 0.25", "0.1000"):  # fmt: skip
        assert part in str(statement)
    assert str(statement).startswith("Certificate")
    made = OracleBound(
        **{f.name: getattr(statement, f.name) for f in dataclasses.fields(statement)}
    )
    assert str(made).startswith("Oracle bound, not a certificate")

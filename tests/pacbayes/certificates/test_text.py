"""Tests of `bayesgen.pacbayes.certificates.text`."""

import pytest

from bayesgen.pacbayes import Payment, TextCertificate

GIVEN = {
    "bound": 1.5,
    "risk": 1.25,
    "complexity": 1234.4,
    "delta": 0.05,
    "n": 12_000,
    "loss": "bits per token",
    "predictor": "network",
    "theorem": "A theorem",
}


def test_statement_about_tokens():
    assert str(TextCertificate(**GIVEN, guessing=7.0, notes=("A note.",))) == (
        "Certificate: with probability at least 0.95 over the text, the expected loss of the "
        "network is at most 1.500 bits per token, averaged over the 12,000 tokens of the text, "
        "each drawn anew after the same earlier tokens. The tokens may depend on each other. The "
        "statement is about the contexts of this text, and not about other texts. The bound "
        "includes 1,234 nats for the code. On the text the mean loss of a token is 1.250. "
        "Inequality: A theorem. A note. Not vacuous: guessing has 7 bits per token."
    )


def test_statement_about_documents():
    payments = (Payment("one of 6 values", 1.79),)
    made = TextCertificate(
        **{**GIVEN, "n": 40}, unit="documents", payments=payments, over="the draw of the windows"
    )
    assert str(made) == (
        "Certificate: with probability at least 0.95 over the text and the draw of the windows, "
        "the expected loss of the network in a new document is at most 1.500 bits per token, as a "
        "mean over the document's tokens, if the 40 documents of the text and the new one are "
        "independent draws of one distribution. The bound includes 1,234 nats for the code, and "
        "1.8 nats for one of 6 values. On the text the mean loss of a document is 1.250. "
        "Inequality: A theorem."
    )


@pytest.mark.parametrize(("bound", "vacuous"), [(6.9, False), (7.0, True), (9.0, True)])
def test_verdict_compares_with_guessing(bound, vacuous):
    made = TextCertificate(**{**GIVEN, "bound": bound}, guessing=7.0)
    assert made.vacuous is vacuous
    assert ("Not vacuous" in str(made)) is not vacuous

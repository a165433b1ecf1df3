"""PAC-Bayes certificates of Laplace approximations, for class labels."""

from __future__ import annotations

from bayesgen.pacbayes.certificates import losses
from bayesgen.pacbayes.certificates.assemble import certificate, sure_complexity
from bayesgen.pacbayes.certificates.certificate import Certificate
from bayesgen.pacbayes.certificates.request import CertificateTerms
from bayesgen.pacbayes.gibbs import DRAWS, gibbs_risk
from bayesgen.pacbayes.inverse_kl import monte_carlo
from bayesgen.posterior.posterior import Posterior


def of_laplace(posterior: Posterior, asked: CertificateTerms, loss: str) -> Certificate:
    """The certificate of a Laplace approximation, for the 0–1 loss of its draws."""
    if loss != "zero_one":
        raise ValueError(
            f"loss={loss!r} is for Gaussian noise; the log loss of labels is unbounded: take "
            'loss="zero_one"'
        )
    likelihood = posterior.observed.likelihood
    if not likelihood.labels:
        raise ValueError(f'loss="zero_one" needs class labels, got a {likelihood.name} likelihood')
    found = posterior.provenance
    owed = sorted(found.unpaid - {"scale", "noise"})
    if owed:
        raise ValueError(
            f"a certificate needs a prior chosen before the data, but {found.describe(owed)}; fit "
            'with hyperparameters="fixed" or ("scale",) at values stated beforehand'
        )
    y = posterior.observed.y[0]
    mean, variance = posterior.marginals()
    if not likelihood.coupled:
        return certificate(
            mean,
            variance,
            posterior.evidence,
            losses.zero_one(2 * y - 1),
            asked,
            settings={},
            posterior=posterior,
        )
    if asked.predictor == "vote":
        raise ValueError(
            'predictor="vote" needs independent outputs, got a softmax, which couples them'
        )
    # Half of δ is used for the sampling error of the risk, which comes from independent draws.
    half = asked.delta / 2
    risk = monte_carlo(gibbs_risk(posterior), DRAWS * len(y), half)
    kl, delta, notes = sure_complexity(posterior.evidence, half)
    C = y.shape[-1]
    return Certificate(
        bound=float(asked.theorem.function(risk, kl + asked.paid, len(y), delta).clamp(max=1)),
        risk=float(risk),
        complexity=kl,
        delta=asked.delta,
        n=len(y),
        loss="0–1 loss",
        predictor="gibbs",
        theorem=asked.theorem.words,
        payments=asked.payments,
        guessing=1 - 1 / C,
        notes=(
            f"The Gibbs risk is the upper end of an estimate from {DRAWS:,} draws per point, "
            "which holds with probability 1 − δ/2.",
            *notes,
        ),
        posterior=posterior,
    )

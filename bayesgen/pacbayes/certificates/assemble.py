"""Build a certificate from a Gaussian posterior's marginals at the sample and its Evidence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bayesgen.evidence import Evidence
from bayesgen.pacbayes.certificates.certificate import Certificate
from bayesgen.pacbayes.certificates.losses import Loss
from bayesgen.pacbayes.certificates.request import CertificateTerms
from bayesgen.pacbayes.vote import vote

# Largest error, relative to the KL or to one nat, with which a certificate is still given.
_TOO_UNCERTAIN = 0.1
# Errors below this many nats per observation, or this fraction of the KL, count as rounding and are
# added without a share of δ.
_ROUNDING = 1e-6


def certificate(
    mean: Tensor,
    variance: Tensor,
    evidence: Evidence,
    kind: Loss,
    asked: CertificateTerms,
    *,
    settings: dict[str, float],
    free: str = "",
    posterior: Any = None,
    notes: tuple[str, ...] = (),
) -> Certificate:
    """The certificate of a Gaussian posterior from its marginals at the sample and its Evidence.

    Args:
        mean, variance: marginals, (n, C); the variance may be (n, 1).
        evidence: Evidence of one task; its complexity is the KL.
        kind: the loss.
        asked: the terms of the certificate.
        settings, free, posterior, notes: copied into the certificate.
    """
    variance = _shared(variance) if kind.labels is not None else variance
    expected = kind.expected(mean, variance).detach()
    kl, delta, uncertain = sure_complexity(evidence, asked.delta)
    words, notes = asked.theorem.words, notes + uncertain
    risk, total = expected.mean().clamp(0, 1), kl + asked.paid
    by_vote = None if kind.labels is None else vote(expected, total, delta)
    if asked.predictor == "gibbs":
        value = float(asked.theorem.function(risk, total, evidence.n, delta))
    elif by_vote is not None:
        value, words = by_vote
    else:
        raise ValueError('predictor="vote" is for class labels, loss="zero_one"')
    return Certificate(
        bound=kind.bound(min(value, 1.0)),
        risk=kind.unscaled(float(risk)),
        complexity=kl,
        delta=asked.delta,
        n=evidence.n,
        loss=kind.words,
        predictor=asked.predictor,
        theorem=words,
        payments=asked.payments,
        free=free,
        guessing=None if kind.guessing is None else kind.unscaled(kind.guessing),
        settings=settings,
        notes=notes,
        vote=None if by_vote is None else by_vote[0],
        posterior=posterior,
    )


def sure_complexity(evidence: Evidence, delta: float) -> tuple[float, float, tuple[str, ...]]:
    """Upper end of KL(Q ‖ P), the remaining δ, and a note for the certificate.

    Rounding errors are added to the KL. A sampling error, as of a stochastic log-determinant,
    enters as the upper end of its normal confidence interval, which uses a tenth of δ.

    Raises:
        ValueError: the error is more than a tenth of the KL, and more than a tenth of a nat.
    """
    kl, error = max(float(evidence.complexity), 0.0), float(evidence.error)
    if error <= _ROUNDING * max(evidence.n, kl):
        return kl + error, delta, ()
    if error > _TOO_UNCERTAIN * max(kl, 1.0):
        raise ValueError(
            f"the error of the evidence must be at most a tenth of KL = {kl:.4g} nats, or of one "
            f"nat, got {error:.3g} nats; compute the evidence exactly, in float64 or with more "
            "probes"
        )
    share = 0.1 * delta
    reach = -float(torch.special.ndtri(torch.tensor(share, dtype=torch.float64)))
    note = (
        f"The KL is an estimate with a standard error of {error:.2g} nats: the bound uses its "
        f"upper end at confidence {1 - share:g}, which takes {share:g} of δ."
    )
    return kl + reach * error, delta - share, (note,)


def _shared(variance: Tensor) -> Tensor:
    """Reduce variances (n, C) that are equal for all outputs to (n, 1)."""
    first = variance[:, :1]
    if not torch.allclose(variance, first.expand_as(variance), rtol=1e-9, atol=0.0):
        raise ValueError(
            "the 0–1 loss needs one noise for all outputs, got different variances; code the "
            "labels with one_hot and fit with one noise"
        )
    return first

"""What a certificate is asked for: the inequality, its confidence, payments beside the KL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bayesgen._internal import checks
from bayesgen.pacbayes import bounds, validation
from bayesgen.pacbayes.certificates.certificate import Payment

Bound = Callable[[Any, Any, int, float], Tensor]


@dataclass(frozen=True)
class Theorem:
    """A bound for losses in [0, 1] and where it comes from."""

    words: str
    function: Bound


THEOREMS: dict[str, Theorem] = {
    "maurer": Theorem("Inverse binary kl, Maurer (2004)", bounds.maurer),
    "mcallester": Theorem(
        "Square root of the KL, McAllester (1999)",
        lambda r, kl, n, d: bounds.mcallester(r, kl, n, delta=d),
    ),
    "quadratic": Theorem("Quadratic form, Pérez-Ortiz et al. (2021)", bounds.quadratic),
    "thiemann": Theorem("At the best λ, Thiemann et al. (2017)", bounds.thiemann),
    "catoni": Theorem(
        "Catoni (2007) at C = 1", lambda r, kl, n, d: bounds.catoni(r, kl, n, delta=d)
    ),
    "catoni_union": Theorem("Catoni (2007), a union over λ", bounds.catoni_union),
    "alquier": Theorem(
        "Alquier et al. (2016) at λ = √n", lambda r, kl, n, d: bounds.alquier(r, kl, n, delta=d)
    ),
}


@dataclass(frozen=True)
class CertificateTerms:
    """What a certificate is asked for.

    Attributes:
        delta: δ.
        theorem: the inequality.
        predictor: "gibbs" or "vote".
        payments: beside the KL.
    """

    delta: float
    theorem: Theorem
    predictor: str
    payments: tuple[Payment, ...] = ()

    @property
    def paid(self) -> float:
        """Nats of the payments."""
        return sum(p.nats for p in self.payments)

    def bound(self, n: int) -> Callable[[Tensor, Tensor], Tensor]:
        """(risk, KL) → bound, for `tuning`."""
        return lambda risk, kl: self.theorem.function(risk, kl + self.paid, n, self.delta)


def terms(delta: float, bound: str, predictor: str) -> CertificateTerms:
    """CertificateTerms, checked.

    Raises:
        ValueError: δ outside (0, 1), an unknown bound or predictor.
    """
    validation.log_delta(delta)
    theorem = THEOREMS[checks.one_of("bound", bound, tuple(THEOREMS))]
    checks.one_of("predictor", predictor, ("gibbs", "vote"))
    return CertificateTerms(delta, theorem, predictor)

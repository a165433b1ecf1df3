"""The terms of a certificate: its inequality, confidence, predictor and payments."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from bayesgen._internal import checks
from bayesgen.pacbayes import bounds, validation
from bayesgen.provenance import Payment

Bound = Callable[[Any, Any, int, float], Tensor]


@dataclass(frozen=True)
class Theorem:
    """A bound for losses in [0, 1], with its source in words."""

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
    """The terms on which a certificate is computed.

    Attributes:
        delta: δ, the probability of failure.
        theorem: the inequality.
        predictor: "gibbs" or "vote".
        payments: nats for choices that depend on the data, beside the KL.
    """

    delta: float
    theorem: Theorem
    predictor: str
    payments: tuple[Payment, ...] = ()

    def paying(self, choices: Iterable[Payment]) -> CertificateTerms:
        """The same terms with further payments, for choices that were made by the data."""
        more = tuple(choices)
        return replace(self, payments=(*self.payments, *more))

    @property
    def paid(self) -> float:
        """Sum of the payments, in nats."""
        return sum(p.nats for p in self.payments)

    def bound(self, n: int) -> Callable[[Tensor, Tensor], Tensor]:
        """The bound as a function (risk, KL) → bound, for `tuning`."""
        return lambda risk, kl: self.theorem.function(risk, kl + self.paid, n, self.delta)


def terms(delta: float, bound: str, predictor: str) -> CertificateTerms:
    """Check the terms of a certificate and collect them.

    Raises:
        ValueError: δ is outside (0, 1); the bound or the predictor is unknown.
    """
    validation.log_delta(delta)
    theorem = THEOREMS[checks.one_of("bound", bound, tuple(THEOREMS))]
    checks.one_of("predictor", predictor, ("gibbs", "vote"))
    return CertificateTerms(delta, theorem, predictor)

"""Statements of PAC-Bayes bounds on fitted models, with their assumptions in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from bayesgen._internal.words import plural
from bayesgen.provenance import Payment


@dataclass(frozen=True)
class Statement:
    """A bound on a risk with everything it depends on; its `str` is one paragraph.

    Attributes:
        bound: upper bound of the true risk.
        risk: empirical Gibbs risk in the bound.
        complexity: KL(Q ‖ P), in nats; its upper end where it was estimated.
        delta: upper bound of the probability, over training samples, that the bound fails.
        n: number of observations in the bound.
        loss: description of the loss of one prediction.
        predictor: "gibbs", a function drawn from the posterior for each prediction; "vote", the
            deterministic classifier that takes the class of most functions; or "network".
        theorem: the inequality, and its source.
        payments: nats for choices that depend on the data, beside the KL.
        free: description of what was tuned at no cost.
        guessing: risk of guessing, or None where it is not a fixed number.
        settings: hyperparameters of the certified posterior.
        notes: further remarks for the reader.
        vote: for class labels, an upper bound of the majority vote's risk at the same δ; None where
            it is unknown.
        posterior: the certified posterior, whose noise variance may have been tuned.
    """

    bound: float
    risk: float
    complexity: float
    delta: float
    n: int
    loss: str
    predictor: str
    theorem: str
    payments: tuple[Payment, ...] = ()
    free: str = ""
    guessing: float | None = None
    settings: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    vote: float | None = None
    posterior: Any = field(default=None, repr=False, compare=False)

    kind: ClassVar[str] = ""

    @property
    def paid(self) -> float:
        """Total nats: the KL plus every payment."""
        return self.complexity + sum(p.nats for p in self.payments)

    @property
    def vacuous(self) -> bool | None:
        """Whether the bound is no better than guessing; None where guessing has no fixed risk."""
        return None if self.guessing is None else self.bound >= self.guessing

    def _verdict(self) -> str:
        if self.guessing is None:
            return ""
        if self.vacuous:
            return f" Vacuous: guessing has a risk of {self.guessing:.3g}."
        return f" Not vacuous: guessing has a risk of {self.guessing:.3g}."

    def __str__(self) -> str:
        who = {
            "gibbs": "a function drawn from the posterior",
            "vote": "the classifier that takes the posterior's majority vote",
            "network": "the network",
        }[self.predictor]
        own = self.predictor == "network"
        of = (
            f"{self.complexity:,.1f} nats for the code"
            if own
            else (f"KL(Q‖P) = {self.complexity:,.1f} nats for the posterior")
        )
        cost = [] if own and not self.complexity else [of]
        cost += [f"{p.nats:.1f} nats for {p.reason}" for p in self.payments]
        free = f" {self.free}" if self.free else ""
        settings = ", ".join(f"{name} {value:.4g}" for name, value in self.settings.items())
        settings = f" Settings: {settings}." if settings else ""
        notes = "".join(f" {note}" for note in self.notes)
        includes = f" The bound includes {', and '.join(cost)}." if cost else ""
        risk = "error rate" if own else "Gibbs risk"
        return (
            f"{self.kind}: with probability at least {1 - self.delta:g} over the draw of "
            f"{plural(self.n, 'observation')}, the {self.loss} of {who} is at most "
            f"{self.bound:.4f} in expectation over new data.{includes}{free} On the sample the "
            f"{risk} is {self.risk:.4f}. {self.theorem}.{settings}{notes}{self._verdict()}"
        )


class Certificate(Statement):
    """A PAC-Bayes bound whose assumptions, except independent data, were checked or paid for."""

    kind: ClassVar[str] = "Certificate"


class OracleBound(Statement):
    """A bound that depends on constants of the data distribution that cannot be measured."""

    kind: ClassVar[str] = "Oracle bound, not a certificate"

"""What a PAC-Bayes bound on a fitted model says, and what it assumes, in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True)
class Payment:
    """Nats added to KL(Q ‖ P) for a choice that the data had a say in.

    Attributes:
        reason: what was chosen, in words.
        nats: −ln of its prior probability.
    """

    reason: str
    nats: float


@dataclass(frozen=True)
class Statement:
    """A bound on a risk with everything it rests on; its `str` is one paragraph.

    Attributes:
        bound: what the true risk is at most.
        risk: the empirical Gibbs risk that went in.
        complexity: KL(Q ‖ P), in nats; its upper end where it was estimated.
        delta: the bound fails for no more than this share of training samples.
        n: observations it rests on.
        loss: of one prediction, in words.
        predictor: "gibbs", a function drawn from the posterior for each prediction, or "vote",
            the deterministic classifier that takes the class most functions would.
        theorem: the inequality, and its source.
        payments: choices paid for, beside the KL.
        free: what was tuned at no cost, in words.
        guessing: the risk of knowing nothing, None where there is no such number.
        settings: hyperparameters of the posterior that is certified.
        notes: what else a reader should know.
        vote: of class labels, what the majority vote's risk is at most, at the same δ; None where
            it is not known.
        posterior: the posterior that is certified: its noise may have been tuned.
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
        """Nats in all: the KL and every payment."""
        return self.complexity + sum(p.nats for p in self.payments)

    @property
    def vacuous(self) -> bool | None:
        """Whether guessing is known to do as well; None where guessing has no risk to compare."""
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
        cost = [f"KL(Q‖P) = {self.complexity:,.1f} nats for what the posterior learnt"]
        cost += [f"{p.nats:.1f} nats for {p.reason}" for p in self.payments]
        free = f" {self.free}" if self.free else ""
        settings = ", ".join(f"{name} {value:.4g}" for name, value in self.settings.items())
        settings = f" Settings: {settings}." if settings else ""
        notes = "".join(f" {note}" for note in self.notes)
        return (
            f"{self.kind}: with probability at least {1 - self.delta:g} over the draw of "
            f"{self.n:,} observations, the {self.loss} of {who} is at most {self.bound:.4f} in "
            f"expectation over new data. It pays {', and '.join(cost)}.{free} On the sample the "
            f"Gibbs risk is {self.risk:.4f}. {self.theorem}.{settings}{notes}{self._verdict()}"
        )


class Certificate(Statement):
    """A PAC-Bayes bound whose every assumption but independent data was checked or paid for."""

    kind: ClassVar[str] = "Certificate"


class OracleBound(Statement):
    """A bound that holds only for constants of the data's distribution that nobody has measured."""

    kind: ClassVar[str] = "Oracle bound, not a certificate"

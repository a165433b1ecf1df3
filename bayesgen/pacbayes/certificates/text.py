"""Certificates of language models, with statements about tokens of a text or new documents."""

from __future__ import annotations

from dataclasses import dataclass

from bayesgen.pacbayes.certificates.certificate import Certificate


@dataclass(frozen=True)
class TextCertificate(Certificate):
    """A bound on the loss per token of a coded language model.

    Attributes:
        unit: "tokens" for a bound on the mean conditional loss over the tokens of the text, or
            "documents" for one on the mean loss of a new document.
        over: what is random, beside the text, in the probability 1 − δ; "" for nothing.
    """

    unit: str = "tokens"
    over: str = ""

    def __str__(self) -> str:
        text = "the text" + (f" and {self.over}" if self.over else "")
        claim = {
            "tokens": (
                f"over {text}, the expected loss of the network is at most {self.bound:.3f} "
                f"{self.loss}, averaged over the {self.n:,} tokens of the text, each drawn anew "
                "after the same earlier tokens. The tokens may depend on each other. The statement "
                "is about the contexts of this text, and not about other texts"
            ),
            "documents": (
                f"over {text}, the expected loss of the network in a new document is at most "
                f"{self.bound:.3f} {self.loss}, as a mean over the document's tokens, if the "
                f"{self.n:,} documents of the text and the new one are independent draws of one "
                "distribution"
            ),
        }[self.unit]
        cost = [f"{self.complexity:,.0f} nats for the code"]
        cost += [f"{p.nats:.1f} nats for {p.reason}" for p in self.payments]
        mean = {"tokens": "token", "documents": "document"}[self.unit]
        notes = "".join(f" {note}" for note in self.notes)
        return (
            f"{self.kind}: with probability at least {1 - self.delta:g} {claim}. The bound "
            f"includes {', and '.join(cost)}. On the text the mean loss of a {mean} is "
            f"{self.risk:.3f}. Inequality: {self.theorem}.{notes}{self._verdict()}"
        )

    def _verdict(self) -> str:
        if self.guessing is None:
            return ""
        word = "Vacuous" if self.vacuous else "Not vacuous"
        return f" {word}: guessing has {self.guessing:.3g} bits per token."

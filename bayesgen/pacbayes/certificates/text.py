"""Certificates of language models, which say the tokens or documents that they are about."""

from __future__ import annotations

from dataclasses import dataclass

from bayesgen.pacbayes.certificates.certificate import Certificate


@dataclass(frozen=True)
class TextCertificate(Certificate):
    """A bound on the loss per token of a coded language model.

    Attributes:
        unit: "tokens" for a bound on the mean conditional loss over the tokens of the text, or
            "documents" for one on the mean loss of a new document.
    """

    unit: str = "tokens"

    def __str__(self) -> str:
        about = {
            "tokens": (
                f"the {self.loss} of the network, averaged over {self.n:,} tokens that are drawn "
                "anew, each after the same past, is at most {bound} in expectation. The tokens may "
                "depend on each other. The statement is about this text and not about other texts"
            ),
            "documents": (
                f"the mean {self.loss} of the network in a new document is at most {{bound}} in "
                f"expectation, if the {self.n:,} documents are independent draws of one "
                "distribution"
            ),
        }[self.unit].replace("{bound}", f"{self.bound:.3f}")
        cost = [f"{self.complexity:,.0f} nats for the code"]
        cost += [f"{p.nats:.1f} nats for {p.reason}" for p in self.payments]
        notes = "".join(f" {note}" for note in self.notes)
        return (
            f"{self.kind}: with probability at least {1 - self.delta:g} over the text, {about}. "
            f"The bound includes {', and '.join(cost)}. On the text the loss is {self.risk:.3f}. "
            f"{self.theorem}.{notes}{self._verdict()}"
        )

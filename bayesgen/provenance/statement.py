"""What of a model was stated, and what was learnt on which data, as values with a printed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from bayesgen.provenance.data import Data


@dataclass(frozen=True)
class Payment:
    """A choice that depends on data, and the nats that a bound adds to KL(Q ‖ P) for it.

    Two choices are paid separately, even where reason and price are equal. A payment is therefore
    equal only to itself and its copies.

    Attributes:
        reason: description of the choice.
        nats: −ln of its prior probability.
        identity: tells this choice from others of the same reason and price.
    """

    reason: str
    nats: float
    identity: str = field(default_factory=lambda: uuid4().hex, repr=False)


@dataclass(frozen=True)
class Source:
    """Where one part of a model comes from, if it was not stated.

    Attributes:
        what: the part: "kernel", "scale", "noise", "decay", "order", "mean", "features", …
        data: the data that it was learnt on; None where they are the data of the model itself.
        how: what learnt it, such as "bayesgen.train"; "" for the fit of the model itself.
        choice: the price of the part, where it was chosen among stated values; None if unpaid.
    """

    what: str
    data: Data | None
    how: str = ""
    choice: Payment | None = None

    @property
    def shapes_kernel(self) -> bool:
        """Whether a kernel of the model depends on it: its parameters, features, or the model."""
        return self.what in ("kernel", "features") or self.what.startswith("model")


@dataclass(frozen=True)
class Provenance:
    """What of a posterior was stated and what was learnt; its `str` says so.

    Attributes:
        data: the data of the posterior; None where its inputs are not kept.
        sources: parts that were learnt on some of the same observations. Other parts were stated,
            or learnt on other data.
    """

    data: Data | None
    sources: tuple[Source, ...] = ()

    @property
    def unpaid(self) -> frozenset[str]:
        """Names of the parts that were learnt on the same observations and not paid for."""
        return frozenset(s.what for s in self.sources if s.choice is None)

    @property
    def choices(self) -> tuple[Payment, ...]:
        """The choices that were made by the same observations at a price."""
        return tuple(dict.fromkeys(s.choice for s in self.sources if s.choice is not None))

    def describe(self, names: Sequence[str]) -> str:
        """What was learnt, on what and how, of the parts with these names, as one clause."""
        groups: dict[str, list[str]] = {}
        for name in names:
            first = next(s for s in self.sources if s.what == name and s.choice is None)
            groups.setdefault(self._origin(first), []).append(name)
        return "; ".join(f"{_listed(parts)} learnt from {of}" for of, parts in groups.items())

    def _origin(self, source: Source) -> str:
        how = f" by {source.how}" if source.how else ""
        if source.data is None or self.data is None or source.data is self.data:
            return f"the data{how}"
        shared = self.data.shared(source.data)
        rows = f"{shared:,} rows" if shared else "observations"
        return f"{source.data}{how}, which share {rows} with these"

    def __str__(self) -> str:
        said = [self.describe(sorted(self.unpaid))] if self.unpaid else []
        for choice in self.choices:
            parts = [s.what for s in self.sources if s.choice == choice]
            said.append(f"{_listed(parts)} chosen and paid for: {choice.reason}")
        if not said:
            said = ["everything was stated, or learnt on other data"]
        else:
            said.append("everything else was stated, or learnt on other data")
        text = "; ".join(said)
        own = "" if self.data is None else f" Data: {self.data}."
        return f"{text[0].upper()}{text[1:]}.{own}"


def _listed(parts: Sequence[str]) -> str:
    """Names of parts with their verb: "kernel was", "kernel, scale were", "features were"."""
    several = len(parts) > 1 or parts[0].endswith("s")
    return f"{', '.join(parts)} {'were' if several else 'was'}"

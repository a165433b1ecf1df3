"""The summary of a posterior: hyperparameters with standard errors, evidence, and cautions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from bayesgen.models.log_evidence import LogEvidence

if TYPE_CHECKING:
    import pandas as pd


# Quantile of a standard normal distribution at 97.5 %.
_TWO_SIDED = 1.959963984540054


@dataclass(frozen=True)
class Summary:
    """What `posterior.summary()` returns; printing it shows all of it.

    Attributes:
        title: kind of the posterior and number of observations.
        hyperparameters: table with a row for each hyperparameter: `value`, `lower` and `upper` (95
            % interval), `se_log` (standard error of its logarithm), `unit`, `learnt`, `at_bound`.
        evidence: table of the evidence and its parts: in nats, and in nats per observation.
        learnt: a sentence about what was learnt on which data; see `posterior.provenance`.
        notes: sentences about what to be careful about.
    """

    title: str
    hyperparameters: pd.DataFrame
    evidence: pd.DataFrame
    learnt: str
    notes: tuple[str, ...]

    def __str__(self) -> str:
        table = self.hyperparameters.to_string(float_format=lambda v: f"{v:.4g}", na_rep="")
        parts = self.evidence.to_string(float_format=lambda v: f"{v:,.4f}", na_rep="")
        lines = [self.title, "", *([table, ""] if len(self.hyperparameters) else []), parts, ""]
        lines += [self.learnt, *(f"Note: {note}." for note in self.notes)]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from html import escape

        tables = "".join(
            table.to_html(float_format=lambda v: f"{v:.4g}", na_rep="", border=0)
            for table in (self.hyperparameters, self.evidence)
            if len(table)
        )
        notes = "".join(f"<li>{escape(note)}.</li>" for note in self.notes)
        return (
            f"<p><b>{escape(self.title)}</b></p>{tables}<p>{escape(self.learnt)}</p>"
            f"<ul>{notes}</ul>"
        )


def summarise(posterior: Any, values: Mapping[str, Any], *, errors: bool) -> Summary:
    """The summary of a posterior of one task; see `Reporting.summary`.

    Args:
        posterior: the posterior.
        values: its hyperparameters by name.
        errors: whether standard errors are computed.
    """
    import pandas as pd

    local = posterior._log_evidence() if errors else None
    notes = list(posterior.notes)
    rows = _rows(posterior, values, local)
    columns = ["value", "lower", "upper", "se_log", "unit", "learnt", "at_bound"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    table.index.name = "hyperparameter"
    edge = [str(name) for name, row in table.iterrows() if row["at_bound"]]
    if edge:
        notes.append(
            f"{', '.join(edge)} {'lies' if len(edge) == 1 else 'lie'} on the edge of the searched "
            "range, beyond which the evidence still increases"
        )
    notes += _cautions(posterior, values, local, table)
    e = posterior.evidence
    parts: dict[str, Any] = {
        "log marginal likelihood": e.log_marginal_likelihood,
        "fit": e.fit,
        "complexity": e.complexity,
        "error": e.error,
    }
    nats = {name: float(value) for name, value in parts.items()}
    evidence = pd.DataFrame(
        {"nats": nats, "per observation": {name: value / e.n for name, value in nats.items()}}
    )
    evidence.loc["effective dimension"] = [float(e.effective_dimension), math.nan]
    evidence = evidence.rename(columns={"nats": "value"})
    title = f"{type(posterior).__name__}, n = {e.n:,}, {e.method}"
    return Summary(title, table, evidence, str(posterior.provenance), tuple(notes))


def _rows(
    posterior: Any, values: Mapping[str, Any], local: LogEvidence | None
) -> dict[str, list[Any]]:
    errors = None if local is None else local.standard_errors()
    units = getattr(values, "units", {})
    bounds = getattr(values, "at_bound", {})
    rows: dict[str, list[Any]] = {}
    for name, value in values.items():
        flat = value.reshape(-1).tolist() if isinstance(value, Tensor) else [float(value)]
        own = [] if local is None else list(local.entries.get(name, []))
        for k, number in enumerate(flat):
            place = posterior._names[k] if len(flat) == len(posterior._names) else k
            label = name if len(flat) == 1 else f"{name}[{place}]"
            low = high = se = math.nan
            if local is not None and errors is not None and k < len(own):
                spread = float(errors[own[k]])
                if bool(local.log[own[k]]):
                    se = spread
                    low, high = (number * _exp(sign * _TWO_SIDED * spread) for sign in (-1, 1))
                else:
                    low, high = (number + sign * _TWO_SIDED * spread for sign in (-1, 1))
            learnt = _is_learnt(posterior, name)
            edge = bool(bounds.get(name, False))
            rows[label] = [number, low, high, se, units.get(name, ""), learnt, edge]
    return rows


def _exp(value: float) -> float:
    return math.inf if value > 700 else math.exp(value)


def _is_learnt(posterior: Any, name: str) -> bool:
    """Whether the fit learnt a hyperparameter; parameters of a kernel are learnt together."""
    known = posterior.learnt
    first = name.split(" of ")[0]
    if first in ("scale", "noise", "decay", "order", "prior_precision"):
        return first in known
    return bool({"kernel", "mean"} & known)


def _cautions(
    posterior: Any, values: Mapping[str, Any], local: LogEvidence | None, table: Any
) -> list[str]:
    """Sentences about what is not identified, not paid for, or not at a mode."""
    notes = [text.rstrip(".") for text in getattr(values, "unidentified", ())]
    if local is not None:
        missing = np.isnan(table["se_log"]) & np.isnan(table["lower"]) & table["learnt"]
        missing &= ~table["at_bound"].astype(bool)
        if bool(missing.any()):
            notes.append(
                "the evidence has no maximum in all hyperparameters at these values, so that they "
                "have no standard errors"
            )
    evidence = posterior.evidence
    if evidence.complexity_excludes:
        notes.append(
            f"the complexity does not include the {', '.join(evidence.complexity_excludes)}, which "
            "were fitted to the same data; the evidence is too high for a comparison"
        )
    if float(evidence.jitter) > 0:
        notes.append(f"a jitter of {float(evidence.jitter):.2g} was added to the covariance")
    if posterior.data_dependent:
        notes.append(f"the prior depends on the data through {posterior.data_dependent}")
    gain = getattr(posterior, "gain", 0.0)
    if gain > 0.01 * evidence.n:
        notes.append(
            f"the network is not at a mode: a Newton step would gain {gain:.3g} nats; see "
            "bayesgen.fit_map"
        )
    return notes

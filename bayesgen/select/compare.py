"""Rank models of the same data by their evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import pandas as pd
import torch

from bayesgen._internal import checks
from bayesgen._internal.user_warning import warn
from bayesgen.evidence import Evidence, same_data
from bayesgen.models.reporting import Certified
from bayesgen.pacbayes import maurer, validation
from bayesgen.pacbayes.certificates.assemble import sure_complexity
from bayesgen.posterior.posterior import Posterior
from bayesgen.select.null import null as null_evidence

NULL = "null"
# Errors of evidences, in nats, below which they change no probability much.
_NOTICED = 0.5


class Comparison(pd.DataFrame):
    """The result of `compare`: a DataFrame that prints every column in a short format."""

    _FORMATS: ClassVar = {
        "log_evidence": "{:,.2f}",
        "per_observation": "{:.3f}",
        "delta": "{:,.2f}",
        "probability": "{:.3f}",
        "fit": "{:,.2f}",
        "complexity": "{:,.2f}",
        "n_eff": "{:,.1f}",
        "error": "{:.0e}",
        "bound": "{:.3f}",
    }

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame  # a part of it is a plain DataFrame

    def __repr__(self) -> str:
        formats: Any = {name: text.format for name, text in self._FORMATS.items()}
        table: str = self.to_string(formatters=formats, na_rep="–", index_names=False)
        return table


def compare(
    models: Mapping[str, Any],
    *,
    prior: Mapping[str, float] | None = None,
    null: Evidence | None = None,
    delta: float = 0.05,
    tolerance: float = 1.0,
) -> Comparison:
    """Rank models of the same data by their log marginal likelihood, best first.

    Args:
        models: name → posterior, or `Evidence`.
        prior: name → prior probability of each model (normalised); equal by default.
        null: Evidence of the null row. By default it is that of the constant model, or of uniform
            guessing for labels, on the models' data; NaN where no posterior is given.
        delta: probability, over the data, that some of the bounds fail.
        tolerance: τ of the bounded loss 1 − exp(−(y − f)²/2τ²) of real targets, in their units; it
            must be chosen without the data. For labels the loss is the 0–1 loss.

    Returns:
        A DataFrame with one row for each model and one named "null": `log_evidence` (nats),
        `per_observation`, `delta` (difference to the best row), `probability` (posterior, among the
        named models), `fit`, `complexity`, `n_eff`, `error` (of the evidence) and `bound`. The
        bound is a PAC-Bayes bound (Maurer 2004) on the Gibbs risk; the models share δ. It needs a
        prior chosen before the data, and is NaN where kernel, scale, decay, order, mean or features
        were learnt on some of the same observations (`posterior.provenance`), a basis used the
        range of the data, the error of the complexity exceeds a tenth of it, or only an Evidence
        was given. Where a model's Evidence leaves out the cost of something fitted to the same data
        (trained features), a column `excludes` names it; the evidence of such a row is too high.
        Beside networks, a column `gain` holds the nats that a Newton step in the log posterior of
        the weights would still gain: above about 0.01 per observation, the weights are not at a
        mode. Models that are the same one at these data, such as RBF + linear where the linear term
        has vanished, share one row with the sum of their probabilities, and a column `same_as`
        names the others.

    Raises:
        TypeError: a model is neither a posterior nor an Evidence.
        ValueError: there are no models; the data differ (by n and the fingerprint of y); a model is
            of a batch of tasks; the prior is invalid; delta is not in (0, 1); tolerance is not
            positive.

    Warns:
        UserWarning: the errors of the evidences allow another model to be the best.

    Source: Kass & Raftery (1995); MacKay (1992).

    Example:
        >>> import bayesgen as bg
        >>> x = torch.linspace(-1, 1, 30, dtype=torch.float64)
        >>> y = torch.sin(3 * x)
        >>> models = {name: bg.Polynomial(k).fit(x, y) for name, k in (("line", 1), ("cubic", 3))}
        >>> table = compare(models)
        >>> list(table.index)
        ['cubic', 'line', 'null']
    """
    if not isinstance(models, Mapping) or not models:
        raise ValueError("models must be a non-empty dict of name → posterior or Evidence")
    if NULL in models:
        raise ValueError(
            f'models must not use the name "{NULL}", which is reserved for the null model'
        )
    validation.log_delta(delta)
    tolerance = checks.positive_number("tolerance", tolerance)
    evidences = {name: _evidence(name, model) for name, model in models.items()}
    first = next(iter(models))
    for name, evidence in evidences.items():
        same_data(first, evidences[first], name, evidence)
    if null is None:
        known = [model.observed for model in models.values() if isinstance(model, Posterior)]
        null = null_evidence(known[0]) if known else None
    if null is not None:
        if not isinstance(null, Evidence):
            raise TypeError(f"null must be an Evidence or None, got {type(null).__name__}")
        same_data(first, evidences[first], NULL, null)
    chances = _probabilities(evidences, prior)
    same = same_models(models, evidences)
    for name, other in same.items():
        chances[other] += chances[name]
    share = delta / len(models)
    rows = {
        name: [*_parts(e), chances[name], _bound(models[name], share, tolerance)]
        for name, e in evidences.items()
        if name not in same
    }
    rows[NULL] = [*([math.nan] * 6 if null is None else _parts(null)), math.nan, math.nan]
    names = ["log_evidence", "per_observation", "fit", "complexity", "n_eff", "error"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[*names, "probability", "bound"])
    table = table.sort_values("log_evidence", ascending=False, kind="stable")
    table.insert(2, "delta", table.log_evidence - table.log_evidence.iloc[0])
    table.insert(3, "probability", table.pop("probability"))
    unpaid = {name: ", ".join(e.complexity_excludes) for name, e in evidences.items()}
    if any(unpaid.values()):
        table["excludes"] = [unpaid.get(str(name), "") for name in table.index]
    gains = {name: float(m.gain) for name, m in models.items() if hasattr(m, "gain")}
    if gains:
        table["gain"] = [gains.get(str(name), math.nan) for name in table.index]
    if same:
        names_of = {o: ", ".join(n for n, other in same.items() if other == o) for o in rows}
        table["same_as"] = [names_of.get(str(name), "") for name in table.index]
    table.index.name = "model"
    _warn_of_errors(evidences)
    return Comparison(table)


def _warn_of_errors(evidences: Mapping[str, Evidence]) -> None:
    """Warn where the errors of the evidences allow another model to be the best."""
    values = {name: float(e.log_marginal_likelihood) for name, e in evidences.items()}
    errors = {name: float(e.error) for name, e in evidences.items()}
    best = max(values, key=lambda name: values[name])
    for name, value in values.items():
        slack = errors[name] + errors[best]
        if name != best and slack > max(values[best] - value, _NOTICED):
            warn(
                f"it is not certain that {best!r} has a larger evidence than {name!r}: they differ "
                f"by {values[best] - value:.3g} nats, and their errors may be {slack:.2g} nats, so "
                "that the probabilities are not reliable",
                UserWarning,
            )
            return


def same_models(models: Mapping[str, Any], evidences: Mapping[str, Evidence]) -> dict[str, str]:
    """Names of models that are the same as an earlier one, with the earlier one's name.

    Their evidence and its parts agree, and so do their posterior means at the training inputs.
    """
    found: dict[str, str] = {}
    means: dict[str, torch.Tensor] = {}

    def mean(name: str) -> torch.Tensor:
        if name not in means:
            means[name] = models[name].marginals()[0].double().reshape(-1)
        return means[name]

    names = [name for name in models if isinstance(models[name], Posterior)]
    for k, name in enumerate(names):
        for other in names[:k]:
            if other in found or not _equal(evidences[name], evidences[other]):
                continue
            a, b = mean(name), mean(other)
            spread = float(b.std(correction=0)) if len(b) > 1 else 0.0
            targets = models[name].observed.y.double()
            least = 1e-4 * float(targets.std(correction=0)) if targets.numel() > 1 else 0.0
            if a.shape == b.shape and float((a - b).abs().max()) <= 1e-2 * spread + least:
                found[name] = other
                break
    return found


def _equal(a: Evidence, b: Evidence) -> bool:
    """Whether two evidences agree in all parts, as those of one model reached twice do."""
    slack = 0.02 + float(a.error) + float(b.error)
    pairs = (
        (a.log_marginal_likelihood, b.log_marginal_likelihood, slack),
        (a.complexity, b.complexity, 10 * slack),
        (a.effective_dimension, b.effective_dimension, 0.05 + 0.01 * float(b.effective_dimension)),
    )
    return all(abs(float(x) - float(y)) <= most for x, y, most in pairs)


def _evidence(name: str, model: Any) -> Evidence:
    evidence = model.evidence if isinstance(model, Posterior) else model
    if not isinstance(evidence, Evidence):
        raise TypeError(
            f"models[{name!r}] must be a posterior or an Evidence, got {type(model).__name__}"
        )
    if evidence.batch_shape:
        raise ValueError(
            f"models[{name!r}] holds a batch of {tuple(evidence.batch_shape)} tasks; compare "
            "one of them, e.g. posterior.task(0)"
        )
    return evidence


def _parts(evidence: Evidence) -> list[float]:
    parts = (
        evidence.log_marginal_likelihood,
        evidence.per_observation,
        evidence.fit,
        evidence.complexity,
        evidence.effective_dimension,
        evidence.error,
    )
    return [float(part) for part in parts]


def _probabilities(
    evidences: Mapping[str, Evidence], prior: Mapping[str, float] | None
) -> dict[str, float]:
    weights = dict.fromkeys(evidences, 1.0) if prior is None else dict(prior)
    if set(weights) != set(evidences):
        raise ValueError(f"prior must name the models {list(evidences)}, got {list(weights)}")
    values = torch.tensor([float(weights[name]) for name in evidences], dtype=torch.float64)
    if not (torch.isfinite(values) & (values >= 0)).all() or values.sum() == 0:
        raise ValueError(f"prior must be finite, at least 0 and not all 0, got {weights}")
    logs = torch.tensor([float(e.log_marginal_likelihood) for e in evidences.values()])
    posterior = torch.softmax(logs.double() + values.log(), 0)
    return dict(zip(evidences, posterior.tolist(), strict=True))


def _bound(model: Any, delta: float, tolerance: float) -> float:
    """Bound on the Gibbs risk where the prior does not depend on the data, else NaN.

    It is a certificate for labels and Maurer's bound for real targets, at the upper end of the
    complexity; NaN where the complexity is too uncertain for a certificate.
    """
    if not isinstance(model, Certified) or model.data_dependent:
        return math.nan
    if model.provenance.unpaid - {"noise"}:
        return math.nan
    try:
        kl, left, _ = sure_complexity(model.evidence, delta)
    except ValueError:  # the evidence is too uncertain
        return math.nan
    if model.observed.likelihood.labels:
        return float(model.certificate(delta).bound)
    risk = model.gibbs_risk(tolerance)
    if risk is None:
        return math.nan
    paid = sum(choice.nats for choice in model.provenance.choices)
    return float(maurer(min(max(risk, 0.0), 1.0), kl + paid, model.evidence.n, left))

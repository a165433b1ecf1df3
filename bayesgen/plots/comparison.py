"""Figure of the models that `bayesgen.compare` ranks."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from bayesgen.plots.legends import finish
from bayesgen.plots.style import COMPLEXITY, EVIDENCE, FIT, REFERENCE, literal, tidy


def comparison(table: pd.DataFrame) -> Figure:
    """Plot the evidence of each model, and its two parts.

    The left panel shows the log evidence per observation, with the best model at the top and the
    null model as a dashed line. The right panel shows fit and complexity per observation, whose
    difference is the evidence.

    Args:
        table: result of `bayesgen.compare`.

    Raises:
        ValueError: the table lacks columns that `bayesgen.compare` returns.

    Example:
        >>> import torch, bayesgen as bg
        >>> x = torch.linspace(-1, 1, 30, dtype=torch.float64)
        >>> len(comparison(bg.compare({"line": bg.Polynomial(1).fit(x, 2 * x + x**2)})).axes)
        2
    """
    needed = {"log_evidence", "per_observation", "fit", "complexity", "probability"}
    if missing := sorted(needed - set(table.columns)):
        raise ValueError(f"table must be what compare returns, it lacks {', '.join(missing)}")
    shown = table[::-1]
    figure = Figure(figsize=(9.0, 1.6 + 0.42 * len(table)), layout="constrained")
    total, parts = figure.subplots(1, 2, sharey=True)
    rows = range(len(shown))
    n = shown.log_evidence / shown.per_observation
    is_null = [name == "null" for name in shown.index]
    total.scatter(
        shown.per_observation, rows, c=[REFERENCE if b else EVIDENCE for b in is_null], zorder=3
    )
    spread = shown.per_observation.max() - shown.per_observation.min()
    for row, (value, chance) in enumerate(
        zip(shown.per_observation, shown.probability, strict=True)
    ):
        if chance == chance:
            text = f"{chance:.2g}" if chance > 1e-3 else "< 0.001"
            total.annotate(text, (value, row), (7, 5), textcoords="offset points", fontsize=8)
    if any(is_null):
        value = shown.per_observation.iloc[is_null.index(True)]
        total.axvline(value, color=REFERENCE, ls="--", lw=1, zorder=1)
    total.margins(x=0.12 if spread else 0.5)
    total.set_yticks(list(rows), [literal(name) for name in shown.index])
    total.set_xlabel("log p(D) / n, nats per observation")
    total.set_title("Evidence (number: posterior probability)", fontsize=10)
    parts.scatter(shown.fit / n, rows, color=FIT, label="fit", zorder=3)
    parts.scatter(
        shown.complexity / n, rows, color=COMPLEXITY, marker="s", label="complexity", zorder=3
    )
    parts.set_xlabel("nats per observation")
    parts.set_title("fit − complexity = evidence", fontsize=10)
    parts.legend(frameon=False, fontsize=8)
    for axes in (total, parts):
        tidy(axes)
    return finish(figure)

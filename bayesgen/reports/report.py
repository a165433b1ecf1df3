"""The door of reports: a posterior, a comparison or the result of an experiment as a page."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayesgen._internal import files
from bayesgen.reports import contents
from bayesgen.reports.blocks import Block, Cautions, Facts, Picture, Prose, Section
from bayesgen.reports.cautions import LAPLACE, cautions
from bayesgen.reports.page import html

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

_PACKAGES = ("bayesgen", "torch", "gpytorch", "numpy", "scipy")


def report(subject: Any, path: str | os.PathLike[str], *, title: str | None = None) -> None:
    """Write a report of one HTML page: tables, figures, what to be careful about, and provenance.

    The page needs nothing beside it: figures are part of it, and it loads and runs nothing.

    Args:
        subject: a posterior of one task, the table of `bayesgen.compare`, or the Dataset of an
            experiment. The figure of a posterior is left out where `posterior.plot()` has none, as
            for more than nine inputs.
        path: the file to write, such as "report.html".
        title: heading of the page; what the subject is by default.

    Raises:
        OSError: the file cannot be written.
        TypeError: the subject is none of these.
        ValueError: the posterior is of a batch of tasks; the path is no file in a folder that
            exists.

    Example:
        >>> import pathlib, tempfile, torch, bayesgen as bg
        >>> x = torch.linspace(-1, 1, 30, dtype=torch.float64)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "report.html"
        ...     bg.report(bg.Polynomial(3).fit(x, torch.sin(3 * x)), path)
        ...     page = path.read_text(encoding="utf-8")
        >>> "<h2>Evidence</h2>" in page
        True
    """
    import pandas as pd
    import xarray as xr

    file = Path(path)
    if not file.name or file.is_dir() or not file.parent.is_dir():
        raise ValueError(f"path must be a file in a folder that exists, got {str(path)!r}")
    if isinstance(subject, xr.Dataset):
        page = of_dataset(subject, title)
    elif isinstance(subject, pd.DataFrame):
        page = _of_table(subject, title)
    elif hasattr(subject, "summary") and hasattr(subject, "evidence"):
        page = _of_posterior(subject, title)
    else:
        raise TypeError(
            "subject must be a posterior, the table of compare or the Dataset of an experiment, "
            f"got {type(subject).__name__}"
        )
    files.write_bytes(file, page.encode())


def of_dataset(result: xr.Dataset, title: str | None = None, figure: Figure | None = None) -> str:
    """The page of an experiment's result.

    Args:
        result: the result.
        title: heading of the page.
        figure: its figure; None for that of the experiment that made it.
    """

    attrs = result.attrs
    return html(
        title or str(attrs.get("title", "Result")),
        [
            Section("Claim", contents.facts(attrs, contents.CLAIM)),
            Section("What to be careful about", _cautions(cautions(result))),
            Section("Figure", _figure(result, figure)),
            Section("Values", contents.values(result)),
            Section("Data", contents.facts(attrs, contents.DATA)),
            Section("Settings", contents.settings(attrs)),
            Section("How it was made", contents.facts(attrs, contents.MADE)),
        ],
        lead(attrs),
    )


def of_page(title: str, parts: Mapping[str, xr.Dataset], figure: Figure) -> str:
    """The page of several results in one figure.

    Args:
        title: heading of the page.
        parts: results by name.
        figure: the figure of all of them.
    """
    from bayesgen.reports.pictures import picture

    sections = [Section("Figure", [picture(figure, title)])]
    for name, result in parts.items():
        facts = contents.facts(result.attrs, contents.CLAIM | contents.DATA | contents.MADE)
        heading = f"{name}: {result.attrs.get('title', 'result')}"
        sections.append(Section(heading, [*_cautions(cautions(result)), *facts]))
    return html(title, sections)


def lead(attrs: Any) -> str:
    """The line below the heading of a page: the data."""
    words = [str(attrs["data"])] if "data" in attrs else []
    words += [f"n = {int(attrs['n']):,}"] if "n" in attrs else []
    words += [f"{attrs['classes']} classes"] if "classes" in attrs else []
    return ", ".join(words)


def _figure(result: xr.Dataset, figure: Figure | None) -> list[Block]:
    """The figure of a result, or nothing where neither it nor its experiment is known."""
    from bayesgen import experiments
    from bayesgen.reports.pictures import picture

    made = getattr(experiments, str(result.attrs.get("experiment", "")), None)
    if figure is None and isinstance(made, experiments.Experiment):
        figure = made.plot(result)
    return [] if figure is None else [picture(figure, str(result.attrs.get("title", "Result")))]


def _of_table(table: pd.DataFrame, title: str | None) -> str:
    from bayesgen.plots import comparison
    from bayesgen.reports.pictures import picture

    notes = [
        f"{name}: the complexity excludes the {what}, so that the evidence is too high"
        for name, what in table.get("excludes", {}).items()
        if what
    ]
    shown = table[table["log_evidence"].notna()] if "log_evidence" in table else table
    drawn = picture(comparison(shown), "Evidence of each model, with its fit and complexity")
    ranking = contents.table(
        table, "Models by evidence, best first; log_evidence, delta, fit and complexity in nats"
    )
    return html(
        title or "Comparison of models by their evidence",
        [
            Section("What to be careful about", _cautions(notes)),
            Section("Evidence", [ranking, drawn]),
            Section("How it was made", [made_now()]),
        ],
    )


def _of_posterior(posterior: Any, title: str | None) -> str:
    summary = posterior.summary()
    evidence = contents.table(
        summary.evidence,
        "Evidence and its parts in nats, and in nats per observation",
        dict.fromkeys(("value", "per observation"), ",.6g"),
    )
    learnt: list[Block] = [Prose(summary.learnt)]
    if len(summary.hyperparameters):
        learnt.append(
            contents.table(
                summary.hyperparameters,
                "Hyperparameters with 95 % intervals; se_log: standard error of the logarithm",
            )
        )
    notes = [note[:1].upper() + note[1:] for note in summary.notes]
    if "Laplace" in posterior.evidence.method:
        notes.append(LAPLACE)
    observed = posterior.observed
    facts = [("observations n", f"{posterior.evidence.n:,}")]
    facts += [("likelihood", str(observed.likelihood.name))]
    x = posterior._axis_inputs()
    if getattr(x, "ndim", 0) == 2:
        facts.append(("inputs d", f"{x.shape[1]:,}"))
    if posterior.classes is not None:
        facts.append(("classes", contents.listed(map(str, posterior.classes))))
    return html(
        title or type(posterior).__name__,
        [
            Section("What to be careful about", _cautions(notes)),
            Section("Evidence", [evidence]),
            Section("Predictions", _plot(posterior)),
            Section("What was learnt", learnt),
            Section("Data", [Facts(facts)]),
            Section("How it was made", [made_now()]),
        ],
        summary.title,
    )


def _plot(posterior: Any) -> list[Block]:
    from bayesgen.reports.pictures import picture

    try:
        axes = posterior.plot()
    except ValueError:  # no inputs to draw along, or too many
        return []
    figure = getattr(axes, "figure", None) or axes.flat[0].figure
    found: Picture = picture(figure, "Predictions along each input, with predictive intervals")
    return [found]


def _cautions(sentences: Any) -> list[Block]:
    ended = [s if s.endswith(".") else f"{s}." for s in sentences]
    return [Cautions(ended)] if ended else []


def made_now() -> Facts:
    """Versions, platform and time, as of now."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES)
    made = datetime.now(UTC).isoformat(timespec="seconds")
    words = f"{platform.system()} {platform.machine()}"
    return Facts(
        [("versions", versions), ("Python", platform.python_version()), ("platform", words),
         ("made at", made)]
    )  # fmt: skip

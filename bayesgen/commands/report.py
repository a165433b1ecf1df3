"""The report of a command: what it printed, its figures, and how the result was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayesgen.commands import call, output

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bayesgen.reports import Section

NAME = "report.html"


@dataclass(frozen=True)
class Study:
    """What a report shows beside what its command printed.

    Attributes:
        title: heading of the page.
        figures: figures by what they show.
        attrs: facts of the result, as the attributes of a Dataset of an experiment.
        cautions: sentences about what to be careful about.
        more: sections after the results.
    """

    title: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    cautions: Sequence[str] = ()
    more: Sequence[Section] = ()


def page(study: Study) -> bytes:
    """The report of the command that is running, as HTML.

    Args:
        study: what the report shows beside what was printed.
    """
    from bayesgen import reports
    from bayesgen.reports import contents
    from bayesgen.reports.pictures import picture
    from bayesgen.reports.report import lead, made_now

    shown, attrs = output.current(), study.attrs
    results: list[reports.Block] = [
        contents.table(each.frame.iloc[: each.rows], each.title, each.formats, each.headings, ".3f")
        for each in shown.tables
    ]
    results += [reports.Prose(text) for text in shown.said]
    results += [picture(figure, alt) for alt, figure in study.figures.items()]
    data = contents.facts(attrs, contents.DATA)
    data += [reports.Cautions(shown.noted)] if shown.noted else []
    settings = {
        key: value.name if isinstance(value, Path) else value
        for key, value in call.current().settings.items()
        if key not in contents.DATA
    }
    made = {"command": call.command_line(), **dict(made_now().pairs)}
    sections = [
        reports.Section("What to be careful about", _listed(study.cautions)),
        reports.Section("Results", results),
        *study.more,
        reports.Section("Data", data),
        reports.Section("Settings", contents.settings({**settings, **attrs})),
        reports.Section("How it was made", contents.made(attrs, made)),
    ]
    return reports.html(study.title, sections, lead(attrs)).encode()


def _listed(sentences: Sequence[str]) -> list[Any]:
    from bayesgen.reports import Cautions

    return [Cautions(sentences)] if sentences else []

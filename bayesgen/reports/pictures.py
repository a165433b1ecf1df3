"""Figures as SVG that can stand several on one page."""

from __future__ import annotations

import hashlib
import re
from io import StringIO

import matplotlib as mpl
from matplotlib.figure import Figure

from bayesgen.reports.blocks import Picture


def picture(figure: Figure, alt: str, caption: str = "") -> Picture:
    """A figure as the picture of a report.

    Letters are drawn as paths. A text of an SVG is otherwise set in whatever font the reader has,
    whose widths differ from those that the figure was laid out with; each letter is kept once, so
    that a figure takes some tens of kB. Names inside the SVG are made its own, since two figures on
    one page would otherwise take each other's letters and frames.

    Args:
        figure: the figure, which is left as it is.
        alt: what it shows.
        caption: text below it.

    Example:
        >>> from matplotlib.figure import Figure
        >>> picture(Figure(figsize=(3, 2)), "an empty figure").width
        288.0
    """
    stream = StringIO()
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "bayesgen"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    for waste in (r"<!--.*?-->", r"<metadata>.*?</metadata>", r"<style\b.*?</style>"):
        svg = re.sub(waste, "", svg, flags=re.DOTALL)
    own = "f" + hashlib.sha256(svg.encode()).hexdigest()[:8]
    svg = re.sub(r'\bid="', f'id="{own}-', svg)
    svg = re.sub(r'\b(?:xlink:)?href="#', f'href="#{own}-', svg)
    svg = svg.replace("url(#", f"url(#{own}-").replace(
        ' xmlns:xlink="http://www.w3.org/1999/xlink"', ""
    )
    svg = re.sub(r"(<svg\b[^>]*?) width=\"[^\"]*\"", r"\1", svg, count=1)
    svg = re.sub(r"(<svg\b[^>]*?) height=\"[^\"]*\"", r"\1", svg, count=1)
    svg = re.sub(r"\n\s*", "\n", svg).strip()
    return Picture(svg, alt, caption, width=float(96 * figure.get_size_inches()[0]))

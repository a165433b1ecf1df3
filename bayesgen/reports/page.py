"""The HTML of a report, from plain values: one page without scripts, fonts or links to fetch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from bayesgen.reports.blocks import Block, Cautions, Facts, Picture, Prose, Section, TableBlock

# Figures are drawn on white in both schemes, since their lines and texts are dark.
_STYLE = """
:root { color-scheme: light dark; --text: #1d2329; --soft: #57606a; --page: #fbfbfa;
  --card: #ffffff; --line: #d8dde3; --head: #f1f3f5; --mark: #b35900; --warn: #fff6e5; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e7eb; --soft: #a3adb8; --page: #15181c;
  --card: #1d2126; --line: #383f47; --head: #252a31; --mark: #f0a03c; --warn: #2b2417; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--text); line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; padding-bottom: .25rem;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
p { margin: .6rem 0; max-width: 46rem; overflow-wrap: anywhere; white-space: pre-line; }
.lead { color: var(--soft); margin-top: 0; }
.scroll { overflow-x: auto; margin: 1rem 0; border: 1px solid var(--line); border-radius: 8px;
  background: var(--card); }
.scroll:focus-visible { outline: 2px solid var(--mark); }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums;
  min-width: 100%; }
caption { text-align: left; padding: .6rem .8rem; color: var(--soft); }
th, td { padding: .35rem .8rem; text-align: left; vertical-align: top;
  border-top: 1px solid var(--line); }
thead th { background: var(--head); vertical-align: bottom; }
tbody th { font-weight: 600; white-space: nowrap; }
.number { text-align: right; white-space: nowrap; }
figure { margin: 1rem 0; }
.picture { background: #ffffff; border: 1px solid var(--line); border-radius: 8px; padding: .5rem;
  overflow-x: auto; }
.picture:focus-visible { outline: 2px solid var(--mark); }
.picture svg { display: block; width: 100%; height: auto; margin: 0 auto; }
.picture svg * { stroke-linejoin: round; stroke-linecap: butt; }
figcaption { color: var(--soft); font-size: .9rem; margin-top: .4rem; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) minmax(0, 1fr);
  gap: .3rem 1.2rem; margin: .8rem 0; }
dt { color: var(--soft); overflow-wrap: anywhere; }
dd { margin: 0; overflow-wrap: anywhere; white-space: pre-line; }
ul.cautions { margin: .8rem 0; padding: .7rem 1rem .7rem 2rem; border-radius: 8px;
  background: var(--warn); border-left: 4px solid var(--mark); overflow-wrap: anywhere; }
ul.cautions li { margin: .25rem 0; }
footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }
@media (max-width: 30rem) { dl { grid-template-columns: minmax(0, 1fr); gap: 0; }
  dd { margin-bottom: .6rem; } }
@media print { .scroll, .picture { overflow: visible; } }
""".strip()
# The page may load and run nothing, whatever stands in its texts.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
# A figure is not made smaller than this share of its natural width; beyond, its box scrolls.
_LEAST = 0.62


def html(title: str, sections: Sequence[Section], lead: str = "") -> str:
    """A report as one HTML page.

    The page is complete in itself: it has no scripts, and it loads nothing. All texts are escaped;
    only the `svg` of a picture is put on the page as it is.

    Args:
        title: heading of the page, and its title.
        sections: its parts; a section without blocks is left out.
        lead: a line below the heading.

    Returns:
        The page.

    Example:
        >>> page = html("Evidence of <x>", [Section("Data", [Facts([("n", "50")])])])
        >>> "<h1>Evidence of &lt;x&gt;</h1>" in page, "<dt>n</dt><dd>50</dd>" in page
        (True, True)
    """
    parts = [f"<h1>{_text(title)}</h1>"]
    if lead:
        parts.append(f'<p class="lead">{_text(lead)}</p>')
    for section in sections:
        if section.blocks:
            body = "\n".join(_block(block) for block in section.blocks)
            parts.append(f"<section>\n<h2>{_text(section.heading)}</h2>\n{body}\n</section>")
    content = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_text(title)}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n<main>\n"
        f"{content}\n</main>\n</body>\n</html>\n"
    )


def _block(block: Block) -> str:
    if isinstance(block, Prose):
        return f"<p>{_text(block.text)}</p>"
    if isinstance(block, Cautions):
        items = "".join(f"<li>{_text(sentence)}</li>" for sentence in block.sentences)
        return f'<ul class="cautions">{items}</ul>'
    if isinstance(block, Facts):
        pairs = "".join(f"<dt>{_text(k)}</dt><dd>{_text(v)}</dd>\n" for k, v in block.pairs)
        return f"<dl>\n{pairs}</dl>"
    return _table(block) if isinstance(block, TableBlock) else _picture(block)


def _table(table: TableBlock) -> str:
    right = [*table.right, *[False] * (len(table.columns) - len(table.right))]
    kinds = [' class="number"' if each else "" for each in right]
    head = "".join(
        f'<th scope="col"{kind}>{_text(name)}</th>'
        for name, kind in zip(table.columns, kinds, strict=True)
    )
    body = []
    for first, *others in table.rows:
        cells = "".join(
            f"<td{kind}>{_text(cell)}</td>" for cell, kind in zip(others, kinds[1:], strict=True)
        )
        body.append(f'<tr><th scope="row"{kinds[0]}>{_text(first)}</th>{cells}</tr>\n')
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{_text(table.caption)}">'
        f"<table>\n<caption>{_text(table.caption)}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{''.join(body)}</tbody>\n</table></div>"
    )


def _picture(picture: Picture) -> str:
    alt = _text(picture.alt)
    svg = re.sub(
        r"^\s*<svg\b",
        f'<svg role="img" aria-label="{alt}" '
        f'style="min-width:{_LEAST * picture.width:.0f}px;max-width:{1.25 * picture.width:.0f}px"',
        picture.svg,
        count=1,
    )
    caption = f"<figcaption>{_text(picture.caption)}</figcaption>" if picture.caption else ""
    return (
        f'<figure><div class="picture" role="group" tabindex="0" aria-label="{alt}">{svg}</div>'
        f"{caption}</figure>"
    )


def _text(value: object) -> str:
    """A text as HTML, without characters that a page must not hold."""
    plain = str(value).encode("utf-8", "replace").decode()
    return escape(re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]", "\ufffd", plain))

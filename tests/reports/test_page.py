"""Tests of `bayesgen.reports.page` and `bayesgen.reports.blocks`."""

import subprocess
import sys
from html.parser import HTMLParser

import pytest

from bayesgen.reports import Cautions, Facts, Picture, Prose, Section, TableBlock, html

EVIL = "<script>alert(\"x\")</script> & 'quoted' \x00\x1b"
SVG = '<svg viewBox="0 0 10 10"><path d="M0 0"/></svg>'


class Outline(HTMLParser):
    """Elements that are open, their texts, and the attributes of all elements."""

    VOID = ("meta", "path", "br")

    def __init__(self, page):
        super().__init__()
        self.open, self.found, self.texts = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def page():
    return html(
        EVIL,
        [
            Section(EVIL, [Prose(EVIL), Cautions([EVIL]), Facts([(EVIL, EVIL)])]),
            Section("Tables", [TableBlock(EVIL, (EVIL, "b"), ((EVIL, EVIL),), (False, True))]),
            Section("Figures", [Picture(SVG, EVIL, EVIL, 300.0)]),
            Section("Nothing", []),
        ],
        EVIL,
    )


def test_every_text_is_escaped_and_every_element_closed():
    made = Outline(page())
    assert made.open == []
    tags = {tag for tag, _ in made.found}
    assert not tags & {"script", "link", "img", "iframe", "object", "base"}
    shown = "<script>alert(\"x\")</script> & 'quoted' \ufffd\ufffd"
    assert made.texts.count(shown) == 13
    assert sum(shown in attrs.values() for _, attrs in made.found) == 3


def test_the_page_has_language_title_and_headings_in_order():
    made = Outline(page())
    attrs = dict(made.found)
    assert attrs["html"]["lang"] == "en"
    assert made.found[0][0] == "html"
    headings = [tag for tag, _ in made.found if tag in ("h1", "h2", "h3")]
    assert headings == ["h1", "h2", "h2", "h2"]  # A section without blocks is left out.
    assert page().startswith("<!DOCTYPE html>")


def test_tables_have_captions_and_scopes_and_figures_have_names():
    made = Outline(page())
    tags = [tag for tag, _ in made.found]
    assert tags.index("caption") == tags.index("table") + 1
    assert [attrs["scope"] for tag, attrs in made.found if tag == "th"] == ["col", "col", "row"]
    (cell,) = (attrs for tag, attrs in made.found if tag == "td")
    assert cell == {"class": "number"}
    (svg,) = (attrs for tag, attrs in made.found if tag == "svg")
    assert svg["role"] == "img"
    assert svg["aria-label"].startswith("<script>")
    assert "min-width:186px" in svg["style"]


def test_the_page_forbids_everything_but_its_own_style():
    made = Outline(page())
    (policy,) = (a["content"] for t, a in made.found if t == "meta" and "http-equiv" in a)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert "http:" not in page()
    assert "https:" not in page()
    assert "url(" not in page()


def test_surrogates_do_not_stop_the_page_from_being_written():
    assert "caf?" in html("caf\udce9", [])
    html("caf\udce9", []).encode()


def test_rows_of_another_length_raise():
    with pytest.raises(ValueError, match="rows must have 2 cells, one for each column, got 1"):
        TableBlock("t", ("a", "b"), (("1",),))


def test_the_renderer_needs_neither_torch_nor_matplotlib():
    code = (
        "import sys\nfrom bayesgen.reports import html\nhtml('a', [])\n"
        "heavy = {'torch', 'matplotlib', 'pandas', 'xarray', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

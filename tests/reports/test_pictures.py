"""Tests of `bayesgen.reports.pictures`."""

import re
from xml.etree import ElementTree

from matplotlib.figure import Figure

from bayesgen.reports.pictures import picture


def drawn(label="<script>alert(1)</script> --> ]]>"):
    figure = Figure(figsize=(4, 3))
    axes = figure.subplots()
    axes.plot([0, 1], [1, 0], label=label)
    axes.fill_between([0, 1], [0, 0], [1, 2], alpha=0.2)
    axes.set_title(label)
    axes.legend()
    return figure


def test_the_svg_is_well_formed_and_holds_no_text_of_the_user():
    made = picture(drawn(), "two lines")
    assert ElementTree.fromstring(made.svg).tag.endswith("svg")
    assert "script" not in made.svg
    assert "<!--" not in made.svg
    assert "<text" not in made.svg  # Letters are paths, which need no font.
    assert made.width == 4 * 96
    assert len(made.svg) < 60_000


def test_two_figures_share_no_names_and_each_finds_its_own():
    first, second = picture(drawn(), "a").svg, picture(drawn("another"), "b").svg
    names = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (first, second)]
    assert not names[0] & names[1]
    for svg, own in zip((first, second), names, strict=True):
        used = set(re.findall(r'href="#([^"]+)"', svg)) | set(re.findall(r"url\(#([^)]+)\)", svg))
        assert used
        assert used <= own


def test_the_same_figure_gives_the_same_picture_and_is_left_as_it_was():
    figure = drawn()
    before = figure.get_size_inches().tolist(), figure.dpi
    assert picture(figure, "a") == picture(figure, "a")
    assert (figure.get_size_inches().tolist(), figure.dpi) == before

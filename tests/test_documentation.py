"""The code blocks of the README and of the documentation run, and their command lines parse."""

import re
import shlex
from pathlib import Path

import pytest
import torch
import typer

from bayesgen import cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(bayesgen [^`]+)`")


def blocks(page):
    """Language, text and first line number of each fenced block of a page."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        yield found[1], found[2], text.count("\n", 0, found.start()) + 2


def python_blocks():
    return [
        pytest.param(page, code, line, id=f"{page.name}:{line}")
        for page in PAGES
        for language, code, line in blocks(page)
        if language == "python"
    ]


def command_lines():
    """What follows the word `bayesgen` in every console block and in every inline command."""
    found = []
    for page in PAGES:
        for language, code, _ in blocks(page):
            if language != "python":
                rows = code.replace("\\\n", " ").splitlines()
                found += [(page.name, row) for row in rows if re.search(r"\bbayesgen [a-z-]", row)]
        prose = FENCE.sub("", page.read_text(encoding="utf-8"))
        found += [(page.name, " ".join(row.split())) for row in INLINE.findall(prose)]
    lines = []
    for name, row in dict.fromkeys(found):
        # Brackets stand around options that may be left out.
        words = shlex.split(re.sub(r"[][]", " ", row.partition("bayesgen ")[2]), comments=True)
        lines.append(pytest.param(words, id=f"{name}: {' '.join(words)}"))
    return lines


@pytest.mark.parametrize(("page", "code", "line"), python_blocks())
def test_python_block_runs_without_warning(page, code, line, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    # Line numbers of a traceback are those of the page.
    exec(compile("\n" * (line - 1) + code, str(page), "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("words", command_lines())
def test_command_line_is_parsed(words):
    group = typer.main.get_command(cli.app)
    name, *rest = words
    if name == "--help":
        return
    assert name in group.commands
    if rest:  # A name alone refers to the command and need not be a whole command line.
        group.commands[name].make_context(name, rest)


def test_pages_hold_python_blocks_and_command_lines():
    assert len(python_blocks()) >= 5
    assert len(command_lines()) >= 10


def test_files_that_pages_mention_exist():
    mention = re.compile(r"`((?:tests|examples|benchmarks|bayesgen)/[\w/.]+\.\w+)`")
    missing = [
        f"{page.name}: {path}"
        for page in PAGES
        for path in mention.findall(page.read_text(encoding="utf-8"))
        if not (ROOT / path).exists()
    ]
    assert missing == []

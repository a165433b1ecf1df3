"""The code blocks and the command lines of the README and of the documentation run.

`docs/testing.md` describes the comments that let a block run slowly, with further arguments, or be
parsed only. Every public name of the package is on a page of the API.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
import typer

from bayesgen.commands.app import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- test: (.*?) -->\n\Z")
INLINE = re.compile(r"`((?:bayesgen |make |python (?:benchmarks|docs|examples)/)[^`]+)`")
# The longest that a line may take, with room for a busy machine; the aim is under a minute.
PATIENCE = 280


class Block(NamedTuple):
    """A fenced block: its page, language, text, first line number and mark."""

    page: Path
    language: str
    text: str
    line: int
    mark: str

    @property
    def name(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def lines(self):
        return [
            line
            for row in self.text.replace("\\\n", " ").splitlines()
            if (line := row.strip()) and not line.startswith("#")
        ]


def blocks(*languages):
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for fence in FENCE.finditer(text):
            mark = MARK.search(text[: fence.start()])
            line = text.count("\n", 0, fence.start()) + 2
            found.append(Block(page, fence[1], fence[2], line, mark[1] if mark else ""))
    return [block for block in found if block.language in languages]


def parameters(found):
    return [
        pytest.param(block, id=block.name, marks=[pytest.mark.slow] * (block.mark == "slow"))
        for block in found
    ]


def to_run():
    return [block for block in blocks("sh") if not block.mark.startswith("parse")]


def to_parse():
    """The lines of blocks that are parsed only, and the command lines within sentences."""
    found = [
        (block.page, line)
        for block in blocks("sh")
        if block.mark.startswith("parse")
        for line in block.lines
    ]
    for page in PAGES:
        prose = FENCE.sub("", page.read_text(encoding="utf-8"))
        found += [(page, " ".join(line.split())) for line in INLINE.findall(prose)]
    unique = dict.fromkeys((page.relative_to(ROOT).as_posix(), line) for page, line in found)
    return [pytest.param(line, id=f"{page}: {line}") for page, line in unique]


def test_each_block_has_a_language_and_a_known_mark():
    wrong = [block.name for block in blocks("") if block.text]
    assert wrong == [], "write ```python, ```sh or ```text"
    for block in blocks("python", "sh", "text"):
        kind = block.mark.partition(" ")[0].rstrip(";")
        allowed = {"sh": ("", "slow", "args", "parse"), "python": ("", "slow", "parse")}
        assert kind in allowed.get(block.language, ("",)), block.name
        assert kind != "parse" or block.mark.startswith("parse; "), f"{block.name}: give the reason"


@pytest.mark.parametrize("block", parameters(blocks("python")))
def test_python_block_runs_without_warning(block, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    # Line numbers of a traceback are those of the page.
    code = compile("\n" * (block.line - 1) + block.text, str(block.page), "exec")
    if not block.mark.startswith("parse"):
        exec(code, {"__name__": "__main__"})


@pytest.fixture
def folder(tmp_path):
    """A folder with `mine.csv`: two inputs, a real target y and class labels."""
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(2, 80))
    table = pd.DataFrame({"a": a, "b": b, "y": np.sin(a) + 0.1 * draw.normal(size=80)})
    table["label"] = np.where(a + b > 0, "yes", "no")
    table.to_csv(tmp_path / "mine.csv", index=False)
    return tmp_path


@pytest.mark.parametrize("block", parameters(to_run()))
def test_shell_block_runs_without_warning(block, folder):
    added = shlex.split(block.mark.removeprefix("args ")) if block.mark.startswith("args ") else []
    for line in block.lines:
        words = [*shlex.split(line, comments=True), *added]
        run = subprocess.run(
            runnable(words),
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert run.returncode == 0, f"{line}\n{run.stdout}{run.stderr}"
        assert "warning" not in (run.stdout + run.stderr).lower(), f"{line}\n{run.stderr}"


def runnable(words):
    """The same command with this interpreter and with paths from the root of the repository."""
    python = [sys.executable]
    match words:
        case ["bayesgen", *rest]:
            return [*python, "-m", "bayesgen", *rest]
        case ["torchrun", *rest]:
            return [*python, "-m", "torch.distributed.run", *rest]
        case ["python", script, *rest]:
            return [*python, str(ROOT / script), *rest]
    raise AssertionError(f"mark the block as parsed only: {' '.join(words)}")


@pytest.mark.parametrize("line", to_parse())
def test_command_line_is_parsed(line, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    # Brackets stand around options that may be left out, and dots for more of the same.
    words = shlex.split(re.sub(r"[][]| … | \.\.\. ", " ", line), comments=True)
    while "=" in words[0]:
        words.pop(0)
    match words:
        case ["bayesgen", *rest]:
            parse_bayesgen(rest)
        case ["torchrun", *rest]:
            at = rest.index("-m")
            assert rest[at + 1] == "bayesgen"
            parse_bayesgen(rest[at + 2 :])
        case ["python", script, *rest]:
            parse_script(script, rest)
        case ["make", *rest]:
            parse_make(rest)
        case ["pip", "install", package]:
            assert re.fullmatch(r"bayesgen(distributed|pretrained)?", re.sub(r"[][ ]", "", package))
        case _:
            raise AssertionError(f"no parser for {line}")


def parse_bayesgen(words):
    group = typer.main.get_command(app)
    name, *rest = words or ["--help"]
    if name.startswith("--") or name in ("COMMAND", "NAME"):
        return
    rest = ["occam" if word == "NAME" else word for word in rest]
    if "--config" in rest:  # the file is read while the options are parsed
        file = Path(rest[rest.index("--config") + 1])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert name in group.commands
    if rest:  # A name alone refers to the command and need not be a whole command line.
        group.commands[name].make_context(name, rest)


def parse_script(script, words):
    """Each option is one of the script's, which are read from its source."""
    source = (ROOT / script).read_text(encoding="utf-8")
    for word in words:
        if word.startswith("--"):
            assert f'"{word.partition("=")[0]}"' in source, f"{script} has no option {word}"


def parse_make(words):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        if "=" in word:
            assert re.search(rf"\b{word.partition('=')[0]}\b", makefile), word
        else:
            assert re.search(rf"^(?:[\w-]+ )*{word}(?: [\w-]+)*:", makefile, re.MULTILINE), word


def test_pages_hold_python_blocks_and_command_lines():
    assert len(blocks("python")) >= 20
    assert len(to_run()) >= 10
    assert len(to_parse()) >= 30


def test_files_that_pages_mention_exist():
    mention = re.compile(r"`((?:tests|examples|benchmarks|bayesgen)/[\w/.]+\.\w+)`")
    missing = [
        f"{page.name}: {path}"
        for page in PAGES
        for path in mention.findall(page.read_text(encoding="utf-8"))
        if not (ROOT / path).exists()
    ]
    assert missing == []


def test_links_between_files_lead_somewhere():
    link = re.compile(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)")
    missing = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in [*PAGES, ROOT / "CHANGELOG.md"]
        for target in link.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert missing == []


def test_every_public_name_is_on_a_page_of_the_api(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import site_reference

    text = "\n".join(site_reference.api_pages().values())
    modules = site_reference.public_modules()
    assert {"bayesgen", "bayesgen.pacbayes", "bayesgen.models"} <= set(modules)
    for module, names in modules.items():
        for name in names:
            path = site_reference.path_of(module, name)
            assert f"::: {path}\n" in text or f"`{module}.{name}`" in text, f"{module}.{name}"


def test_every_command_is_on_the_page_of_the_command_line(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import site_reference

    page = site_reference.command_page()
    for name, command in typer.main.get_command(app).commands.items():
        assert f"## {name}\n" in page
        for option in command.params:
            if option.param_type_name == "option" and option.name != "help":
                assert f"`{option.opts[0]}`" in page

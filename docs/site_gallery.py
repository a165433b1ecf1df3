"""The gallery: each script of `examples/` is run, and its output and figure become a page.

Results are kept in `build/gallery` under a hash of the script and of the package, so that only what
has changed is run again.
"""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
CACHE = ROOT / "build" / "gallery"
# Seconds after which a script is stopped.
PATIENCE = 300


@dataclass(frozen=True)
class Example:
    """A script, its docstring, what it printed and the figure that it drew."""

    script: Path
    title: str
    text: str
    code: str
    output: str
    figure: Path

    @property
    def page(self) -> str:
        """Path of its page in the site."""
        return f"gallery/{self.script.stem}.md"

    @property
    def short_title(self) -> str:
        """Its title in the navigation."""
        return self.script.stem.replace("_", " ").capitalize()

    def markdown(self) -> str:
        """The page."""
        name = self.script.name
        return "\n".join(
            [
                f"# {self.title}",
                "",
                self.text,
                "",
                f"![Figure of {name}]({self.figure.name})",
                "",
                f"`python examples/{name}` prints:",
                "",
                "```text",
                self.output.rstrip(),
                "```",
                "",
                f"## examples/{name}",
                "",
                "```python",
                self.code.rstrip(),
                "```",
                "",
            ]
        )


def examples() -> list[Example]:
    """All examples, run where there is no result of the same sources."""
    scripts = sorted(EXAMPLES.glob("*.py"))
    package = _hash(*sorted((ROOT / "bayesgen").rglob("*.py*")))
    workers = max(1, (os.cpu_count() or 1))
    with ThreadPoolExecutor(workers) as pool:
        folders = list(pool.map(lambda script: _results(script, package), scripts))
    return [_example(*pair) for pair in zip(scripts, folders, strict=True)]


def index(found: list[Example]) -> str:
    """The page with all figures."""
    cards = [
        f"-   [![{e.title}]({e.figure.name})]({e.script.stem}.md)\n\n"
        f"    [{e.title}]({e.script.stem}.md)\n"
        for e in found
    ]
    head = (
        "# Gallery\n\nEach example is a script of `examples/` that runs in seconds on one thread. "
        "The figures and the printed numbers were made when this site was built.\n\n"
    )
    return head + '<div class="grid cards" markdown>\n\n' + "\n".join(cards) + "\n</div>\n"


def _hash(*files: Path) -> str:
    total = hashlib.sha256()
    for file in files:
        if file.suffix in {".py", ".pyi"}:
            total.update(file.name.encode() + file.read_bytes())
    return total.hexdigest()[:16]


def _results(script: Path, package: str) -> Path:
    """The folder with the output and the figure of a script."""
    folder = CACHE / f"{script.stem}-{_hash(script)}-{package}"
    if folder.is_dir():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        run = subprocess.run(
            [sys.executable, str(script)],
            cwd=scratch,
            env={**os.environ, **threads, "PYTHONPATH": path, "MPLBACKEND": "agg"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        if run.returncode or run.stderr:
            raise RuntimeError(f"examples/{script.name} failed or warned:\n{run.stderr}")
        if not run.stdout or not (Path(scratch) / f"{script.stem}.png").is_file():
            raise RuntimeError(
                f"examples/{script.name} must print something and write {script.stem}.png"
            )
        (Path(scratch) / "output.txt").write_text(run.stdout, encoding="utf-8")
        for old in CACHE.glob(f"{script.stem}-????????????????-????????????????"):
            shutil.rmtree(old)
        shutil.copytree(scratch, folder)
    return folder


def _example(script: Path, folder: Path) -> Example:
    source = script.read_text(encoding="utf-8")
    title, _, text = (ast.get_docstring(ast.parse(source)) or "").partition("\n")
    return Example(
        script,
        title.rstrip("."),
        # The docstring ends with the command, which the page states by itself.
        text.strip().partition("\n\n    python ")[0],
        source,
        (folder / "output.txt").read_text(encoding="utf-8"),
        folder / f"{script.stem}.png",
    )

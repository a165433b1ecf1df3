"""What the benchmarks share: data, timing, and the tables they leave in benchmarks/results/."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import gpytorch
import torch

RESULTS = Path(__file__).parent / "results"
T = TypeVar("T")


def timed(function: Callable[[], T]) -> tuple[float, T]:
    """Seconds, and what the function returned."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def median(function: Callable[[], object], repeats: int) -> float:
    """Median seconds over repeats."""
    return statistics.median(timed(function)[0] for _ in range(repeats))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first column is a text and the others are numbers."""
    lines = [f"| {' | '.join(header)} |", f"| --- |{' ---: |' * (len(header) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def write(name: str, title: str, command: str, rows: list[tuple[str, str]], notes: str) -> None:
    """Print a two-column table and keep it as Markdown."""
    width = max(len(label) for label, _ in rows)
    padded = [(f"{label:{width}}", value) for label, value in rows]
    own = table((f"{'':{width}}", ""), padded).replace("|  |", "| |", 1)
    write_tables(name, title, command, [own], notes)


def write_tables(name: str, title: str, command: str, tables: Sequence[str], notes: str) -> None:
    """Print tables and keep them as Markdown, with the command and the machine."""
    machine = (
        f"{platform.machine()}, {torch.get_num_threads()} threads; "
        f"torch {torch.__version__}, gpytorch {gpytorch.__version__}"
    )
    if torch.cuda.is_available():
        machine = f"{torch.cuda.get_device_name()}; {machine}"
    text = (
        "\n\n".join([f"# {title}", f"`{command}`", *tables, notes, f"Machine: {machine}."]) + "\n"
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    print(text)

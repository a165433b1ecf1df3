"""Write the rows of docs/reproduction.md from the results of `bayesgen reproduce all`.

Usage: python docs/fill_reproduction.py [FOLDER]

FOLDER is the output folder of the command, results/reproduce by default. Rows of results that are
not in it are kept. A result with a table of its own, such as table1, replaces the table below the
comment `<!-- table of COMMAND -->` with its command.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import h5py

PAGE = Path(__file__).with_name("reproduction.md")
FIRST, LAST = "<!-- rows: written by docs/fill_reproduction.py -->", "<!-- end of rows -->"


def rows(text: str) -> dict[str, str]:
    """Rows of a table of Markdown by their first cell."""
    lines = [line for line in text.splitlines() if re.match(r"\| [a-z][a-z0-9-]* \|", line)]
    return {line.split("|")[1].strip(): line for line in lines if not line.startswith("| name ")}


def filled(page: str, table: str) -> str:
    """The page with the rows of a table in place of its own."""
    before, rest = page.split(FIRST)
    own, after = rest.split(LAST)
    new = rows(own) | {
        name: re.sub(r" --out [^\s`]+", "", line) for name, line in rows(table).items()
    }
    head = "| name | paper says | we get | holds | command |\n| --- | --- | --- | --- | --- |\n"
    return f"{before}{FIRST}\n\n{head}" + "\n".join(new.values()) + f"\n\n{LAST}{after}"


def read(path: Path) -> dict[str, str]:
    """Attributes of a stored result."""
    with h5py.File(path) as file:
        return {name: str(value) for name, value in file.attrs.items()}


def public(command: str) -> str:
    """A command without its output folder, and with DIR for the folder of its data."""
    command = re.sub(r" --out [^\s`]+", "", command)
    return re.sub(r" --data-dir [^\s`]+", " --data-dir DIR", command)


def with_table(page: str, command: str, table: str) -> str:
    """The page with a table below the comment of its command, or as it is without the comment."""
    first, last = f"<!-- table of {public(command)} -->", "<!-- end of table -->"
    if first not in page:
        return page
    before, rest = page.split(first)
    return f"{before}{first}\n\n{table}\n\n{last}{rest.split(last, 1)[1]}"


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "results/reproduce")
    table = (folder / "table.md").read_text(encoding="utf-8")
    page = filled(PAGE.read_text(encoding="utf-8"), table)
    for path in sorted(folder.glob("*.nc")):
        attrs = read(path)
        if "table" in attrs:
            page = with_table(page, attrs["command"], attrs["table"])
    PAGE.write_text(page, encoding="utf-8")
    print(f"wrote {PAGE}")

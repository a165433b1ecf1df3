"""Write the rows of docs/reproduction.md from the results of `bayesgen reproduce all`.

Usage: python docs/fill_reproduction.py [FOLDER]

FOLDER is the output folder of the command, results/reproduce by default. Rows of results that are
not in it are kept.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

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


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "results/reproduce")
    table = (folder / "table.md").read_text(encoding="utf-8")
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), table), encoding="utf-8")
    print(f"wrote {PAGE}")

"""Extension of griffe: docstrings of this package as the site shows them.

A section "Example:" becomes "Examples:", whose code griffe shows as code. A section "Attributes:"
becomes a list, because the attributes that `__init__` sets have no annotations for griffe to find.
"""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^(\s*)Example:$", re.MULTILINE)
ATTRIBUTES = re.compile(r"^( *)Attributes:\n((?:\1 +\S.*(?:\n|\Z)|\n(?=\1 ))+)", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Change docstrings when they are read."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of one object."""
        if obj.docstring is not None:
            text = EXAMPLE.sub(r"\1Examples:", obj.docstring.value)
            obj.docstring.value = ATTRIBUTES.sub(_listed, text)


def _listed(section: re.Match[str]) -> str:
    """The attributes as a Markdown list."""
    rows = section[2].rstrip().splitlines()
    indent = min(len(row) - len(row.lstrip()) for row in rows if row.strip())
    lines = [f"{section[1]}**Attributes:**", ""]
    for row in rows:
        text = row[indent:]
        names, colon, rest = text.partition(": ")
        if text.startswith(" ") or not colon:
            lines.append(f"{section[1]}    {text.strip()}")
        else:
            named = ", ".join(f"`{name}`" for name in names.split(", "))
            lines.append(f"{section[1]}* {named} – {rest}")
    return "\n".join([*lines, "", ""])

"""Draw docs/figures/architecture.svg from the imports that the source files really have.

    python docs/draw_architecture.py

The picture shows the rooms of the package, each above all rooms that it imports. An arrow that
follows from two others is left out. tests/test_architecture.py checks that the picture is current.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from html import escape
from pathlib import Path
from textwrap import wrap

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "bayesgen"
PICTURE = HERE / "figures" / "architecture.svg"

Arrows = dict[str, set[str]]


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """Dotted name below `bayesgen` → file; a package is named by its folder."""
    found = {}
    for path in package.rglob("*.py"):
        parts = list(path.relative_to(package).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        if parts:
            found[".".join(parts)] = path
    return found


def imports(known: dict[str, Path]) -> Arrows:
    """Module → modules of the package that it imports, wherever in the file the import stands.

    The names that a lazy package hands on are those of its stub file.
    """
    arrows: Arrows = defaultdict(set)
    for name, path in known.items():
        sources = [path, path.with_suffix(".pyi")]
        for node in (n for s in sources if s.exists() for n in ast.walk(ast.parse(s.read_text()))):
            if isinstance(node, ast.ImportFrom):
                if node.level:
                    raise ValueError(f"{path}: relative import in line {node.lineno}")
                whole = [f"{node.module}.{alias.name}" for alias in node.names]
                targets = [t if below(t) in known else str(node.module) for t in whole]
            elif isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            else:
                continue
            arrows[name] |= {below(t) for t in targets if t.startswith("bayesgen.")}
    return arrows


def below(module: str) -> str:
    """A module's name without the package's."""
    return module.removeprefix("bayesgen.")


def room(module: str) -> str:
    """The room of a module: its folder, or its file where it lies directly in the package."""
    return module.partition(".")[0]


def between_rooms(arrows: Arrows) -> Arrows:
    """Room → other rooms that it imports."""
    found: Arrows = defaultdict(set)
    for importer, targets in arrows.items():
        found[room(importer)] |= {room(t) for t in targets} - {room(importer)}
    return found


def floors(arrows: Arrows) -> dict[str, int]:
    """Room → its floor: one above the highest room that it imports."""

    def height(name: str) -> int:
        return 1 + max((height(target) for target in arrows.get(name, ())), default=-1)

    names = set(arrows) | {t for targets in arrows.values() for t in targets}
    return {name: height(name) for name in names}


def reduced(arrows: Arrows) -> Arrows:
    """The arrows without those that follow from two or more others."""

    def reached(name: str) -> set[str]:
        return {t for target in arrows.get(name, ()) for t in ({target} | reached(target))}

    return {
        name: {t for t in targets if not any(t in reached(o) for o in targets - {t})}
        for name, targets in arrows.items()
    }


# ---------------------------------------------------------------------- the picture

WIDTH, BOX, HEIGHT, GAP = 1120, 200, 74, 46


def svg() -> str:
    """The picture as text."""
    known = modules()
    arrows = between_rooms(imports(known))
    level = floors(arrows)
    rows = [sorted(n for n in level if level[n] == h) for h in range(max(level.values()), -1, -1)]
    place, y = {}, 20
    for row in rows:
        space = (WIDTH - len(row) * BOX) / (len(row) + 1)
        for i, name in enumerate(row):
            place[name] = (space + i * (BOX + space), y)
        y += HEIGHT + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" '
        'font-family="Helvetica, Arial, sans-serif">',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#0072b2"/></marker>',
        "</defs>",
        f'<rect width="{WIDTH}" height="{y}" fill="white"/>',
    ]
    for name, targets in sorted(reduced(arrows).items()):
        for target in sorted(targets):
            (x1, y1), (x2, y2) = place[name], place[target]
            start, end = (x1 + BOX / 2, y1 + HEIGHT), (x2 + BOX / 2, y2 - 2)
            bend = max(GAP * 0.6, 0.3 * (end[1] - start[1]))
            parts.append(
                f'<path d="M{start[0]:.0f},{start[1]:.0f} C{start[0]:.0f},{start[1] + bend:.0f} '
                f'{end[0]:.0f},{end[1] - bend:.0f} {end[0]:.0f},{end[1]:.0f}" fill="none" '
                'stroke="#0072b2" stroke-opacity="0.55" stroke-width="1.4" '
                'marker-end="url(#head)"/>'
            )
    for name, (x, top) in sorted(place.items()):
        parts.append(
            f'<rect x="{x:.0f}" y="{top}" width="{BOX}" height="{HEIGHT}" rx="7" fill="#f7f9fb" '
            'stroke="#333" stroke-width="1.2"/>'
        )
        title = name if (PACKAGE / name).is_dir() else f"{name}.py"
        parts.append(_text(x, top + 20, title, 14, "bold"))
        for i, line in enumerate(wrap(_summary(known[name]), 34)[:3]):
            parts.append(_text(x, top + 37 + 14 * i, line, 10.5, "normal"))
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, text: str, size: float, weight: str) -> str:
    return (
        f'<text x="{x + BOX / 2:.0f}" y="{y}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="middle" fill="#222">{escape(text)}</text>'
    )


def _summary(path: Path) -> str:
    """The first sentence of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(text.split("\n\n")[0].split()).rstrip(".").replace("`", "")


def loops(arrows: Arrows) -> list[str]:
    """Modules that import themselves through others."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for target in arrows.get(todo.pop(), ()):
                if target not in seen:
                    seen.add(target)
                    todo.append(target)
        return seen

    return sorted(m for m in list(arrows) if m in reached(m))


def upward(arrows: Arrows, order: tuple[set[str], ...]) -> list[str]:
    """Imports between rooms that do not lead to a lower floor of an order, from the bottom up."""
    height = {name: level for level, names in enumerate(order) for name in names}
    return sorted(
        f"{importer} -> {target}"
        for importer, targets in arrows.items()
        for target in targets
        if height[importer] <= height[target]
    )


if __name__ == "__main__":
    PICTURE.write_text(svg(), encoding="utf-8")
    print(f"wrote {PICTURE}")

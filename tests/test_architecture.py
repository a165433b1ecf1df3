"""The plan of the package, held against the imports that its source files really have."""

import ast
from collections import defaultdict
from pathlib import Path

import bayesgen

# Rooms from the bottom up. A room imports rooms of lower floors only; rooms on one floor do not
# import each other.
FLOORS = (
    {"_internal", "errors"},
    {"evidence"},
    {"solvers", "likelihoods", "data", "networks", "features", "plots"},
    {"kernels", "spectrum"},
    {"covariance", "curvature"},
    {"posterior"},
    {"pacbayes"},
    {"models"},
    {"select", "training"},
    {"experiments"},
    {"commands"},
    {"cli"},
    {"__main__"},
)


ROOT = Path(bayesgen.__file__).parent


def modules():
    """Dotted name below `bayesgen` → path; a package is named by its folder."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        if parts:
            found[".".join(parts)] = path
    return found


def _below(target):
    return target.removeprefix("bayesgen.")


def imports(known):
    """Every import of a module of the package by another, wherever in the file it stands."""
    arrows = defaultdict(set)
    for name, path in known.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                targets = [f"{node.module}.{alias.name}" for alias in node.names]
                targets = [t if _below(t) in known else node.module for t in targets]
            elif isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            else:
                continue
            arrows[name] |= {_below(t) for t in targets if t.startswith("bayesgen.")}
    return arrows


def room(module):
    return module.partition(".")[0]


def upward(arrows, floors, place):
    """Imports that do not lead to a lower floor."""
    height = {name: level for level, names in enumerate(floors) for name in names}
    unknown = {place(m) for m in arrows} - set(height)
    assert not unknown, f"rooms without a floor: {unknown}"
    return sorted(
        f"{importer} -> {imported}"
        for importer, targets in arrows.items()
        for imported in targets
        if place(importer) != place(imported) and height[place(importer)] <= height[place(imported)]
    )


FAMILIES = ({"latent"}, {"gp", "linear", "network"}, {"deep"})


def circles(arrows):
    """Groups of modules that import each other in a loop."""

    def reached(start):
        seen, todo = set(), [start]
        while todo:
            for target in arrows.get(todo.pop(), ()):
                if target not in seen:
                    seen.add(target)
                    todo.append(target)
        return seen

    after = {module: reached(module) for module in list(arrows)}
    return sorted(m for m in after if m in after[m])


def test_imports_between_rooms_lead_downwards():
    known = modules()
    assert upward(imports(known), FLOORS, room) == []


def test_imports_between_model_families_lead_downwards():
    known = modules()
    inside = {
        importer: {t for t in targets if t.startswith("models.") and t.count(".") == 2}
        for importer, targets in imports(known).items()
        if importer.startswith("models.") and importer.count(".") == 2
    }
    assert upward(inside, FAMILIES, lambda module: module.split(".")[1]) == []


def test_no_modules_import_each_other_in_a_loop():
    assert circles(imports(modules())) == []


def test_checks_find_upward_import_and_loop():
    arrows = {"solvers.a": {"models.b"}, "models.b": {"solvers.a"}}
    assert upward(arrows, FLOORS, room) == ["solvers.a -> models.b"]
    assert circles(arrows) == ["models.b", "solvers.a"]


def test_few_modules_lie_directly_in_the_package():
    loose = sorted(path.name for path in ROOT.glob("*.py"))
    assert len(loose) <= 12, loose

"""Imports on first use: a package's public names are read from its stub file."""

from __future__ import annotations

import ast
import sys
import threading
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from bayesgen._internal.deprecation import warn_renamed

_LOCK = threading.RLock()
# Seconds that a thread waits for its turn before it imports beside the others.
_PATIENCE = 5.0
# Attempts to import what another thread has imported in part, and seconds between them.
_ATTEMPTS, _PAUSE = 100, 0.2


def attach(
    package: str, file: str, renamed: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package, from the imports in its stub file.

    Args:
        package: name of the package.
        file: path of its `__init__.py`. The stub `__init__.pyi` lies beside it; apart from
            annotations it holds only statements `from MODULE import NAME as NAME`.
        renamed: former name → new name; a former name works with a `DeprecationWarning`.
    """
    stub = ast.parse(Path(file).with_suffix(".pyi").read_text(encoding="utf-8"))
    homes = {
        alias.name: node.module
        for node in stub.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }

    def get(name: str) -> Any:
        if name in renamed:
            warn_renamed(f"{package}.{name}", f"{package}.{renamed[name]}")
            name = renamed[name]
        home = homes.get(name, package)
        if home == package:
            return _submodule(package, name)
        # Threads that import several names at once take turns, lest they meet half-imported
        # modules. The wait is bounded: a thread inside an import holds that module's own lock.
        turn = _LOCK.acquire(timeout=_PATIENCE)
        try:
            value = _again(lambda: getattr(import_module(home), name))
        finally:
            if turn:
                _LOCK.release()
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return get, names, sorted(homes)


def _again(load: Callable[[], Any]) -> Any:
    """The result of an import, tried again while another thread holds a module half-imported."""
    for _ in range(_ATTEMPTS):
        try:
            return load()
        except (ImportError, AttributeError) as err:
            if "partially initialized" not in str(err):
                raise
            time.sleep(_PAUSE)
    return load()


def _submodule(package: str, name: str) -> Any:
    """A submodule of the package, or an AttributeError where there is none."""
    path = f"{package}.{name}"
    try:
        return _again(lambda: import_module(path))
    except ModuleNotFoundError as err:
        if err.name is None or not f"{path}.".startswith(f"{err.name}."):
            raise
    raise AttributeError(f"module {package!r} has no attribute {name!r}")

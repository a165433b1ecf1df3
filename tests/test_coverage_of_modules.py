"""Every module of the package is named by a test module that tests it."""

import ast
from pathlib import Path

import bayesgen

PACKAGE = Path(bayesgen.__file__).parent
TESTS = Path(__file__).parent


def modules():
    """Dotted names of the modules with code of their own, without packages' public names."""
    return {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
        if path.stem not in ("__init__", "__main__")
    }


def named():
    """Dotted name of each module in the docstring of a test module → paths of those tests."""
    found = {}
    for path in TESTS.rglob("test_*.py"):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        for word in text.split("`")[1::2]:
            found.setdefault(word, set()).add(path.relative_to(TESTS).as_posix())
    return found


def test_every_module_is_named_by_a_test_module():
    assert sorted(modules() - set(named())) == []


def test_every_module_named_by_a_test_module_exists():
    words = {word for word in named() if word.startswith("bayesgen.")}
    assert sorted(words - modules()) == []


def test_test_modules_name_a_module_of_their_room():
    """A test below a folder of tests is about a module in the folder of the same name."""
    words_of = {}
    for word, paths in named().items():
        for path in paths:
            words_of.setdefault(path, []).append(word)
    for path, words in words_of.items():
        room = path.rpartition("/")[0].replace("/", ".")
        if room:
            assert any(word.startswith(f"bayesgen.{room}.") for word in words), path

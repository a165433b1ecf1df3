"""Tests of `bayesgen._internal.lazy`."""

import subprocess
import sys

import pytest

import bayesgen as bg
from bayesgen._internal import lazy

INIT = """
from bayesgen._internal import lazy
__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__, {"ancient": "sqrt"})
"""
STUB = "from math import sqrt as sqrt\nfrom made_for_a_test import part as part\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package whose public names are a function of `math` and a module of its own."""
    folder = tmp_path / "made_for_a_test"
    folder.mkdir()
    (folder / "__init__.py").write_text(INIT)
    (folder / "__init__.pyi").write_text(STUB)
    (folder / "part.py").write_text("VALUE = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    import made_for_a_test

    yield made_for_a_test
    for name in [n for n in sys.modules if n.startswith("made_for_a_test")]:
        del sys.modules[name]


def test_names_of_the_stub_are_imported_at_first_use(package):
    assert "sqrt" not in vars(package)
    assert package.sqrt(9) == 3
    assert "sqrt" in vars(package)
    assert package.part.VALUE == 3
    assert package.__all__ == ["part", "sqrt"]
    assert {"part", "sqrt"} <= set(dir(package))


def test_old_names_warn_and_unknown_names_raise(package):
    with pytest.warns(DeprecationWarning, match="made_for_a_test.ancient is now made_for_a_test"):
        assert package.ancient(4) == 2
    with pytest.raises(AttributeError, match="module 'made_for_a_test' has no attribute 'cube'"):
        _ = package.cube


def test_every_public_name_of_the_package_exists():
    assert lazy.attach("bayesgen", bg.__file__, {})[2] == bg.__all__
    for name in bg.__all__:
        assert getattr(bg, name) is not None


def test_import_of_the_package_needs_neither_torch_nor_matplotlib():
    code = "import sys, bayesgen; print(*{'torch', 'matplotlib', 'gpytorch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""

"""Tests of `bayesgen._internal.moved`."""

import importlib.machinery
import importlib.util
import sys

import pytest

import bayesgen as bg
from bayesgen._internal import moved
from bayesgen._internal.moved import MOVED, RENAMED, install


@pytest.mark.parametrize("new", sorted(set(MOVED.values())))
def test_new_paths_exist(new):
    assert importlib.util.find_spec(f"bayesgen.{new}") is not None


def test_old_paths_at_the_top_are_free_for_the_hook():
    """An ordinary module of that name would be found before the hook."""
    finder = importlib.machinery.PathFinder
    old = [name for name in MOVED if "." not in name]
    assert [n for n in old if finder.find_spec(f"bayesgen.{n}", bg.__path__)] == []


@pytest.mark.parametrize("old", ["gram", "solvers.dense", "models.base", "pacbayes.loss"])
def test_old_path_warns_and_holds_the_same_objects(old, monkeypatch):
    monkeypatch.delitem(sys.modules, f"bayesgen.{old}", raising=False)
    with pytest.warns(DeprecationWarning, match=rf"bayesgen\.{old} has moved: import bayesgen\."):
        found = importlib.import_module(f"bayesgen.{old}")
    new = importlib.import_module(f"bayesgen.{MOVED[old]}")
    renamed = moved._NAMES.get(old, {})
    names = [name for name in vars(new) if not name.startswith("__") and name not in renamed]
    assert names
    assert all(getattr(found, name) is getattr(new, name) for name in names)
    monkeypatch.delitem(sys.modules, f"bayesgen.{old}", raising=False)


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_old_public_names_warn_and_are_the_new_ones(old, new):
    with pytest.warns(DeprecationWarning, match=rf"bayesgen\.{old} is now bayesgen\.{new}"):
        assert getattr(bg, old) is getattr(bg, new)


def test_hook_is_installed_once():
    before = list(sys.meta_path)
    install()
    assert sys.meta_path == before

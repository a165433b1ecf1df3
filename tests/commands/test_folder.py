"""Tests of `bayesgen.commands.folder`."""

import pytest

from bayesgen.commands import call, output
from bayesgen.commands.folder import opened, results, slug
from tests.helpers import run_command

FILES = ("study.nc", "study.png")


def study(folder, out=None, overwrite=False, **settings):
    options = {key: f"--{key}" for key in settings}
    with (
        call.made("study", settings, options, set()),
        results(out, ("digits",), FILES, overwrite) as place,
    ):
        place.record()
        (place.path / "study.nc").write_text("result")
        return place.path


def test_other_settings_get_another_default_folder(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    first = study(tmp_path, seeds=1)
    assert str(first) == "results/study-digits"
    assert study(tmp_path, seeds=1) == first
    assert capsys.readouterr().err == ""
    assert str(study(tmp_path, seeds=2)) == "results/study-digits-2"
    assert "seeds is 1 there and 2 here" in capsys.readouterr().err
    assert str(study(tmp_path, seeds=2)) == "results/study-digits-2"
    assert str(study(tmp_path, level=2)) == "results/study-digits-3"


def test_a_folder_that_was_asked_for_is_refused_or_overwritten(tmp_path):
    out = tmp_path / "out"
    study(tmp_path, out, seeds=1)
    with pytest.raises(ValueError, match="--out must be a folder without a result of other"):
        study(tmp_path, out, seeds=2)
    assert study(tmp_path, out, True, seeds=2) == out
    (out / "study.toml").unlink()
    with pytest.raises(ValueError, match="its settings are unknown"):
        study(tmp_path, out, seeds=2)


def test_other_contents_of_a_file_are_other_settings(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("a")
    study(tmp_path, tmp_path / "out", csv=table)
    table.write_text("b")
    with pytest.raises(ValueError, match="csv had other contents"):
        study(tmp_path, tmp_path / "out", csv=table)


def fail(folder, *cells):
    with opened(folder, "study") as place:
        (place.path / "cells").mkdir()
        for cell in cells:
            (place.path / "cells" / cell).write_text("")
        raise ValueError("no")


def test_a_failure_leaves_no_empty_folders_and_keeps_others(tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    with pytest.raises(ValueError, match="no"):
        fail(tmp_path / "a" / "b" / "c")
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    with pytest.raises(ValueError, match="no") as error:
        fail(old, "one.nc")
    assert error.value.kept.startswith("1 finished cell is kept in")
    assert old.exists()


def test_failed_commands_leave_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_command(monkeypatch, "corruption", "--train", 5000) == 2
    assert "--train must be between 1 and the 1400 points" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_raises(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="must be writable"), opened(tmp_path / "file" / "x", "study"):
        pass


def test_names_of_folders_hold_plain_characters():
    assert (
        slug("select", "Wein (2).v1", "größe/kg", "gp,mlp") == "select-wein-2-.v1-größe-kg-gp+mlp"
    )
    assert output.current().quiet is False

"""Tests of `bayesgen.commands.config` and `bayesgen.commands.call`."""

import tomllib

import pytest
import typer
import xarray as xr

from bayesgen.commands import call, config
from bayesgen.commands.app import app
from tests.helpers import run_command

COMMANDS = typer.main.get_command(app).commands


def settings(tmp_path, text, name="corruption"):
    file = tmp_path / "c.toml"
    file.write_text(text)
    return config.settings(file, name, COMMANDS[name], COMMANDS)


def test_tables_of_commands_take_precedence_over_the_top(tmp_path):
    text = 'seeds = 1\nlevels = [0, 0.5]\nsteps = 3\n[corruption]\nseeds = 2\n"data-dir" = "."\n'
    assert settings(tmp_path, text) == {"seeds": "2", "levels": "0,0.5", "data_dir": "."}
    assert settings(tmp_path, text, "laplace") == {"steps": "3"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seds = 1", "there is no option 'seds'; did you mean 'seeds'?"),
        (
            "[corruptin]\nseeds = 1",
            r"there is no command \[corruptin\]; did you mean 'corruption'?",
        ),
        ("[corruption]\nsteps = 1", "corruption has no option 'steps'"),
        ("seeds = true", "seeds must be a text or a number, got true"),
        ("overwrite = 1", "overwrite must be true or false, got 1"),
        ("seeds = []", "seeds must be a text, a number or a list"),
        ("seeds = [[1]]", "seeds must be a text, a number or a list"),
        ("seeds = 2020-01-01", "seeds must be a text, a number or a list"),
        ("seeds =", "--config must be a TOML file"),
        ("config = 'x'", "there is no option 'config'"),
    ],
)
def test_other_files_raise(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        settings(tmp_path, text)


def test_options_that_may_be_repeated_take_lists(tmp_path):
    text = config.written({"drop": ["a", "b"], "level": 0.5}, {})
    assert settings(tmp_path, text, "predict") == {"drop": ["a", "b"], "level": "0.5"}
    assert settings(tmp_path, 'drop = "a"', "predict") == {"drop": ["a"]}


def test_a_missing_file_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match="--config must be a file"):
        config.settings(tmp_path / "no.toml", "info", COMMANDS["info"], COMMANDS)


def test_written_settings_are_read_again(tmp_path):
    text = config.written({"seeds": 2, "sep": 'a"\t', "level": 0.5}, {"command": "bayesgen ü"})
    assert tomllib.loads(text)["record"] == {"command": "bayesgen ü"}
    assert settings(tmp_path, text.replace("level = 0.5\n", "")) == {"seeds": "2", "sep": 'a"\t'}


def test_the_command_line_takes_precedence_and_is_recorded(monkeypatch, tmp_path):
    (tmp_path / "c.toml").write_text("seeds = 2\ntrain = 40\ntest = 20\nlevels = [0, 1]\n")
    words = ("--config", tmp_path / "c.toml", "--seeds", 1, "--out", tmp_path / "out")
    assert not run_command(monkeypatch, "corruption", *words)
    with xr.open_dataset(tmp_path / "out" / "corruption.nc", engine="h5netcdf") as result:
        assert dict(result.sizes) == {"level": 2, "seed": 1}
        assert result.attrs["command"] == (
            f"bayesgen corruption --seeds 1 --out {tmp_path / 'out'} --levels 0,1 --test 20 "
            "--train 40"
        )
    again = ("--config", tmp_path / "out" / "corruption.toml", "--out", tmp_path / "again")
    assert not run_command(monkeypatch, "corruption", *again)
    with xr.open_dataset(tmp_path / "again" / "corruption.nc", engine="h5netcdf") as result:
        assert dict(result.sizes) == {"level": 2, "seed": 1}


def test_settings_that_do_not_change_the_result_are_left_out():
    options = {"seeds": "--seeds", "threads": "--threads", "name": "NAME", "sep": "--sep"}
    params = {"seeds": 3, "threads": 2, "name": "fig5", "sep": None}
    with call.made("reproduce", params, options, set()) as made:
        assert made.settings == {"seeds": 3, "name": "fig5"}

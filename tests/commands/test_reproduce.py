"""Tests of `bayesgen.commands.reproduce`."""

import pytest
import xarray as xr

from bayesgen import cli, experiments
from tests.helpers import run_command

_GERMAIN = experiments.germain._function


def _small(**more):
    return _GERMAIN(sizes=(10, 100, 1000), **more)


def test_reproduce_germain_writes_figure(monkeypatch, tmp_path):
    monkeypatch.setattr(experiments.germain, "_function", lambda **more: _small(**more))
    assert not run_command(monkeypatch, "reproduce", "germain", "--out", tmp_path)
    assert (tmp_path / "germain.png").exists()


@pytest.mark.parametrize("name", ["fig1abc", "fig5"])
def test_reproduce_writes_figure_and_data(monkeypatch, tmp_path, capsys, name):
    monkeypatch.setattr("sys.argv", ["bayesgen", "reproduce", name, "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    with xr.open_dataset(tmp_path / f"{name}.nc", engine="h5netcdf") as result:
        assert result.attrs["command"].startswith("bayesgen reproduce")
    assert name in capsys.readouterr().out


def test_unknown_name_ends_with_list_of_known_ones(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sys.argv", ["bayesgen", "reproduce", "fig9", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "'fig1abc', 'fig5', 'occam'" in capsys.readouterr().err

"""Tests of `bayesgen.commands.dkl`."""

import xarray as xr

from tests.helpers import run_command


def test_dkl_command_writes_figure_and_data(monkeypatch, tmp_path, capsys):
    words = ("--train", 40, "--test", 30, "--levels", "0", "--out", tmp_path)
    assert not run_command(monkeypatch, "dkl", *words)
    out = capsys.readouterr().out
    assert "dkl-prior" in out
    assert "(complexity excludes features)" in out
    assert (tmp_path / "dkl.png").stat().st_size > 10_000
    with xr.open_dataset(tmp_path / "dkl.nc", engine="h5netcdf") as stored:
        unpaid = dict(zip(stored.model.values, stored.excludes.values, strict=True))
    assert unpaid["gp"] == unpaid["dkl-prior"] == ""
    assert unpaid["dkl"] == unpaid["dkl-lipschitz"] == "features"

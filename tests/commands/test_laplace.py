"""Tests of `bayesgen.commands.laplace`."""

import pytest
import xarray as xr

from tests.helpers import run_command

SMALL = ("--train", 80, "--test", 60, "--epochs", 10, "--steps", 30)


def test_laplace_command_writes_figure_and_data(monkeypatch, tmp_path, capsys):
    words = ("--network", "convnet", "--curvature", "kron,diag,last_layer")
    assert not run_command(monkeypatch, "laplace", *SMALL, *words, "--out", tmp_path)
    out = capsys.readouterr().out
    assert "convnet (" in out
    assert "Prior precision of each layer (learnt)" in out
    assert "last_layer: the complexity excludes the features" in out
    shown = [line.split() for line in out.splitlines() if line.startswith((" kron", " diag"))]
    assert all(len(row) == 9 and not any("…" in cell for cell in row) for row in shown)
    assert len(shown) == 2
    assert (tmp_path / "laplace.png").stat().st_size > 10_000
    with xr.open_dataset(tmp_path / "laplace.nc", engine="h5netcdf") as stored:
        assert list(stored.curvature.values) == ["kron", "diag", "last_layer"]
        assert len(stored.prior_precision) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--network", "forest"), "'forest'"),
        (("--curvature", "ggn,ggn"), "different names"),
        (("--curvature", "exact"), "'exact'"),
        (("--prior-precision", "-1"), "--prior-precision must"),
        (("--network", "lenet"), "12 pixels"),
        (("--level", "1.5"), "'--level'"),
        (("--steps", "0"), "'--steps'"),
    ],
)
def test_invalid_options_end_with_error(monkeypatch, tmp_path, capsys, words, message):
    assert run_command(monkeypatch, "laplace", *SMALL, *words, "--out", tmp_path) == 2
    assert message in capsys.readouterr().err

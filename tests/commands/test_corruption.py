"""Tests of `bayesgen.commands.corruption`."""

import pytest
import xarray as xr

from bayesgen import kernels
from bayesgen.commands import choices
from bayesgen.experiments import network_evidence
from tests.helpers import run_command

SMALL = ["--train", "80", "--test", "50", "--levels", "0:1:0.5", "--seeds", "2"]


def test_corruption_command_writes_figure_and_data(monkeypatch, tmp_path, capfd):
    out = tmp_path / "new" / "folder"
    assert not run_command(monkeypatch, "corruption", *SMALL, "--out", out)
    printed = capfd.readouterr()
    assert "digits, n = 80" in printed.out
    assert "Rounding leaves the evidence uncertain" in printed.out
    assert sorted(p.name for p in out.iterdir()) == [
        "corruption.nc",
        "corruption.png",
        "corruption.toml",
        "report.html",
    ]
    assert (out / "corruption.png").read_bytes().startswith(b"\x89PNG")
    with xr.open_dataset(out / "corruption.nc", engine="h5netcdf") as result:
        assert dict(result.sizes) == {"level": 3, "seed": 2}
        assert result.attrs["command"].startswith("bayesgen corruption --train 80")


def test_download_is_shown_by_progress_bar(monkeypatch, cifar_online, tmp_path, capfd):
    assert not run_command(
        monkeypatch, "corruption", "--data", "cifar10", "--levels", "0,1", "--out", tmp_path / "out"
    )
    printed = capfd.readouterr()
    assert "cifar10, n = 100" in printed.out
    assert "download" in printed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--levels", "0:2:0.5"], "--levels must be START:STOP:STEP"),
        (["--levels", "0,1.5"], "--levels must lie in [0, 1], got 1.5"),
        (["--levels", "a"], "--levels must be START:STOP:STEP"),
        (["--data", "mnist"], "--data must be one of"),
        (
            ["--data", "cifar10", "--data-dir", "/nowhere"],
            "--data-dir must be a folder, /nowhere is not",
        ),
        (["--kernel", "rfb"], "--kernel must be made of"),
        (["--dtype", "float16"], "--dtype must be one of"),
        (["--device", "tpu"], "--device must be one of"),
        (["--seeds", "0"], "Invalid value for '--seeds'"),
        (["--noise", "-1"], "--noise must be positive and finite, got -1.0"),
        (["--threads", "0"], "Invalid value for '--threads'"),
        (["--train", "5000"], "--train must be between 1 and the 1400 points"),
    ],
)
def test_invalid_options_end_with_one_error(monkeypatch, tmp_path, capfd, arguments, message):
    assert run_command(monkeypatch, "corruption", "--out", tmp_path, *arguments) == 2
    printed = capfd.readouterr().err
    assert message in printed
    assert "Traceback" not in printed
    assert not list(tmp_path.iterdir())


def test_krylov_engine_from_command_line(monkeypatch, tmp_path, capfd):
    words = ["--engine", "krylov", "--train", "200", "--test", "50", "--levels", "0,1"]
    assert not run_command(monkeypatch, "corruption", *words, "--seeds", "1", "--out", tmp_path)
    printed = capfd.readouterr().out
    assert "block Lanczos" in printed
    assert "of its size" in printed
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "corruption.nc",
        "corruption.png",
        "corruption.toml",
        "report.html",
    ]
    with xr.open_dataset(tmp_path / "corruption.nc", engine="h5netcdf") as result:
        assert "train_error_interpolating" not in result
        assert (result.evidence_error < 0.05 * abs(result.log_marginal_likelihood)).all()
        falls = result.log_marginal_likelihood.values[:, 0]
        assert falls[0] > falls[1]


def test_workers_run_study_of_models(monkeypatch, tmp_path):
    words = ["--model", "gp,polynomial", "--train", "40", "--test", "30", "--levels", "0,1"]
    out = tmp_path / "out"
    assert not run_command(
        monkeypatch, "corruption", *words, "--seeds", "1", "--workers", "2", "--out", out
    )
    assert len(list((out / "cells").glob("*.nc"))) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "2"], "--workers and --scheduler serve several models"),
        (["--model", "mlp", "--engine", "krylov"], "--engine and --work are options of --model gp"),
        (["--engine", "lu"], "--engine must be"),
        (["--model", "gp,mlp", "--workers", "2", "--scheduler", "a"], "not be given together"),
    ],
)
def test_conflicting_options_end_with_error(monkeypatch, tmp_path, capfd, words, message):
    words = [*SMALL, *words, "--out", str(tmp_path)]
    assert run_command(monkeypatch, "corruption", *words) == 2
    assert message in capfd.readouterr().err


def test_corruption_command_compares_models(monkeypatch, tmp_path, capsys):
    words = ("--model", "gp, mlp", "--train", "60", "--test", "40", "--levels", "0,1")
    assert not run_command(
        monkeypatch, "corruption", *words, "--seeds", "1", "--out", str(tmp_path)
    )
    out = capsys.readouterr().out
    assert "evidence of the real-valued codes" in out
    assert "evidence of the labels" in out
    assert (tmp_path / "corruption.png").stat().st_size > 10_000
    with xr.open_dataset(tmp_path / "corruption.nc", engine="h5netcdf") as stored:
        assert list(stored.model.values) == ["gp", "mlp"]


def test_corruption_command_takes_estimates_of_the_evidence(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(network_evidence._CODES, "mlp", {"prior_precision": 1.0, "members": 1})
    words = ("--model", "mlp", "--evidence", "prequential", "--train", "24", "--test", "20")
    out = tmp_path / "out"
    more = ("--levels", "0,1", "--seeds", "1", "--out", str(out))
    assert not run_command(monkeypatch, "corruption", *words, *more)
    assert "prequential code" in capsys.readouterr().out
    with xr.open_dataset(out / "corruption.nc", engine="h5netcdf") as stored:
        assert list(stored.model.values) == ["mlp, prequential"]
        assert stored.attrs["command"].startswith("bayesgen corruption --model mlp --evidence")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "gp,forest"), "'forest'"),
        (("--evidence", "prequential"), "--evidence is an option of other models"),
        (("--model", "mlp", "--evidence", "annealled"), "did you mean 'annealed'?"),
        (("--model", "gp,mlp", "--evidence", "tangent"), "--evidence must be one that every"),
        (("--model", "gp,gp"), "different names"),
        (("--model", "mlp", "--noise", "0.1"), "--model gp alone"),
    ],
)
def test_invalid_models_end_with_error(monkeypatch, tmp_path, capsys, words, message):
    assert run_command(monkeypatch, "corruption", *words, "--out", str(tmp_path)) == 2
    assert message in capsys.readouterr().err


def test_kernels_of_the_command_line_are_those_of_the_package(monkeypatch, tmp_path, capsys):
    assert choices.FORMS == kernels.FORMS
    small = ["--train", "60", "--test", "20", "--levels", "0,1", "--seeds", "1"]
    text = "linear + nngp(depth=2)"
    done = run_command(monkeypatch, "corruption", "--kernel", text, *small, "--out", tmp_path / "a")
    assert not done
    result = xr.load_dataset(tmp_path / "a" / "corruption.nc", engine="h5netcdf")
    assert result.attrs["kernel"] == "linear + nngp(depth=2)"
    capsys.readouterr()
    assert (
        run_command(monkeypatch, "corruption", "--kernel", "rfb", "--out", str(tmp_path / "b")) == 2
    )
    assert "did you mean 'rbf'" in capsys.readouterr().err

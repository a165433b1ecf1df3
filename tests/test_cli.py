import subprocess
import sys

import pytest
import xarray as xr

from bayesgen import cli

SMALL = ["--train", "80", "--test", "50", "--levels", "0:1:0.5", "--seeds", "2"]


def run(monkeypatch, *arguments):
    """Exit status of `bayesgen ...` in this process."""
    monkeypatch.setattr(sys, "argv", ["bayesgen", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


def test_end_to_end(monkeypatch, tmp_path, capfd):
    out = tmp_path / "new" / "folder"
    assert not run(monkeypatch, "corruption", *SMALL, "--out", out)
    printed = capfd.readouterr()
    assert "digits, n = 80" in printed.out
    assert "Rounding leaves the evidence uncertain" in printed.out
    assert sorted(p.name for p in out.iterdir()) == ["corruption.nc", "corruption.png"]
    assert (out / "corruption.png").read_bytes().startswith(b"\x89PNG")
    with xr.open_dataset(out / "corruption.nc", engine="h5netcdf") as result:
        assert dict(result.sizes) == {"level": 3, "seed": 2}
        assert result.attrs["command"].startswith("bayesgen corruption --train 80")


def test_installed_command(tmp_path):
    command = [sys.executable, "-c", "from bayesgen.cli import main; main()", "corruption"]
    done = subprocess.run(
        [*command, *SMALL, "--threads", "1", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Wrote" in done.stdout
    assert "spectrum" in done.stderr or "done" in done.stderr  # the progress bar


def test_download_under_the_progress_bar(monkeypatch, cifar_online, tmp_path, capfd):
    assert not run(
        monkeypatch, "corruption", "--data", "cifar10", "--levels", "0,1", "--out", tmp_path / "out"
    )
    printed = capfd.readouterr()
    assert "cifar10, n = 100" in printed.out
    assert "download" in printed.err


def test_info(monkeypatch, capfd):
    assert not run(monkeypatch, "info")
    assert "torch" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--levels", "0:2:0.5"], "levels must be START:STOP:STEP"),
        (["--levels", "0,1.5"], "levels must lie in [0, 1], got 1.5"),
        (["--levels", "a"], "levels must be START:STOP:STEP"),
        (["--data", "mnist"], "name must be one of"),
        (["--data", "cifar10", "--data-dir", "/nowhere"], "data_dir must hold the file"),
        (["--kernel", "cosine"], "kernel must be one of"),
        (["--dtype", "float16"], "dtype must be one of"),
        (["--device", "tpu"], "device must be one of"),
        (["--seeds", "0"], "seeds must be at least 1"),
        (["--noise", "-1"], "noise must be positive and finite, got -1.0"),
        (["--threads", "0"], "threads must be at least 1"),
        (["--train", "5000"], "train must be between 1 and the 1400 points"),
    ],
)
def test_bad_input_is_one_clear_error(monkeypatch, tmp_path, capfd, arguments, message):
    assert run(monkeypatch, "corruption", "--out", tmp_path, *arguments) == 2
    printed = capfd.readouterr().err
    assert message in printed
    assert "Traceback" not in printed
    assert not list(tmp_path.iterdir())


def test_unwritable_output_is_found_before_the_work(monkeypatch, tmp_path, capfd):
    file = tmp_path / "taken"
    file.write_text("")
    monkeypatch.setattr("bayesgen.experiments.corruption", None)  # never reached
    assert run(monkeypatch, "corruption", "--out", file) == 2
    assert "the output folder must be writable" in capfd.readouterr().err


def test_nothing_half_written(monkeypatch, tmp_path, capfd):
    def fail(self, path, **_):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", fail)
    assert run(monkeypatch, "corruption", *SMALL, "--out", tmp_path) == 2
    assert "No space left on device" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_large_engine_from_the_command_line(monkeypatch, tmp_path, capfd):
    words = ["--engine", "krylov", "--train", "200", "--test", "50", "--levels", "0,1"]
    assert not run(monkeypatch, "corruption", *words, "--seeds", "1", "--out", tmp_path)
    printed = capfd.readouterr().out
    assert "block Lanczos" in printed
    assert "of its size" in printed
    assert sorted(p.name for p in tmp_path.iterdir()) == ["corruption.nc", "corruption.png"]
    with xr.open_dataset(tmp_path / "corruption.nc", engine="h5netcdf") as result:
        assert "train_error_interpolating" not in result
        assert (result.evidence_error < 0.05 * abs(result.log_marginal_likelihood)).all()
        falls = result.log_marginal_likelihood.values[:, 0]
        assert falls[0] > falls[1]


def test_a_plan_and_its_reason(monkeypatch, capfd, tmp_path):
    assert not run(monkeypatch, "info", "--plan", "n=50000", "d=3072", "outputs=110")
    printed = capfd.readouterr().out
    assert "engine" in printed
    assert "why" in printed
    assert "GFLOP/s" in printed
    assert "GB/s" not in printed  # no disk was asked for
    words = ("--plan", "n=50000", "d=3072", "outputs=110", "--work", str(tmp_path))
    assert not run(monkeypatch, "info", *words)
    assert "GB/s" in capfd.readouterr().out
    assert run(monkeypatch, "info", "--plan", "n=50000") == 2
    assert "plan must be n=… d=… outputs=…" in capfd.readouterr().err


def test_workers_run_a_study_of_models(monkeypatch, tmp_path):
    words = ["--model", "gp,polynomial", "--train", "40", "--test", "30", "--levels", "0,1"]
    out = tmp_path / "out"
    assert not run(
        monkeypatch, "corruption", *words, "--seeds", "1", "--workers", "2", "--out", out
    )
    assert len(list((out / "cells").glob("*.nc"))) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "2"], "workers and scheduler serve several models"),
        (["--model", "mlp", "--engine", "krylov"], "engine and work are options of --model gp"),
        (["--engine", "lu"], "engine must be"),
        (["--model", "gp,mlp", "--workers", "2", "--scheduler", "a"], "not be given together"),
    ],
)
def test_options_that_do_not_go_together(monkeypatch, tmp_path, capfd, words, message):
    words = [*SMALL, *words, "--out", str(tmp_path)]
    assert run(monkeypatch, "corruption", *words) == 2
    assert message in capfd.readouterr().err

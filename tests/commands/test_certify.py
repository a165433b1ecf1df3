"""Tests of `bayesgen.commands.certify`."""

import pytest
import xarray as xr

from tests.helpers import run_command

SMALL = ["--train", "150", "--test", "60", "--levels", "0,0.5,1", "--groups", "0,1,2,3,4/5,6,7,8,9"]


def test_certify_command_writes_figure_and_data(monkeypatch, tmp_path, capfd):
    assert not run_command(monkeypatch, "certify", *SMALL, "--out", tmp_path)
    printed = capfd.readouterr().out
    assert "digits, n = 150, 2 classes" in printed
    assert "Guessing has a risk of 0.5" in printed
    assert "The Rademacher bound is vacuous at every level." in printed
    with xr.open_dataset(tmp_path / "certify.nc", engine="h5netcdf") as result:
        assert dict(result.sizes) == {"level": 3, "seed": 1}
        assert result.attrs["command"].startswith("bayesgen certify --train 150")
    assert (tmp_path / "certify.png").read_bytes().startswith(b"\x89PNG")


def test_certify_command_takes_convolutional_kernel(monkeypatch, cifar, tmp_path, capfd):
    arguments = ["--data", "cifar10", "--data-dir", cifar, "--kernel", "convolutional"]
    assert not run_command(monkeypatch, "certify", *arguments, "--levels", "0,1", "--out", tmp_path)
    assert "cifar10, n = 100" in capfd.readouterr().out


def test_certify_command_takes_features_of_a_published_network(
    monkeypatch, published, tmp_path, capfd
):
    arguments = ["--features", "efficientnet-lite0", "--layers", "head,stage6+head"]
    small = ["--train", "40", "--test", "20", "--levels", "0,1", "--store", tmp_path / "kept"]
    assert not run_command(monkeypatch, "certify", *arguments, *small, "--out", tmp_path / "out")
    assert "The bound includes ln 2 nats for the choice of prior" in capfd.readouterr().out
    assert list((tmp_path / "kept").iterdir())
    with xr.open_dataset(tmp_path / "out" / "certify.nc", engine="h5netcdf") as result:
        assert result.attrs["kernel"] == "features of efficientnet-lite0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--features", "resnet"], "--features must be"),
        (["--store", "x"], "--layers and --store are for --features"),
        (["--features", "efficientnet-lite0", "--layers", "tail"], "layers must be one of"),
        (["--groups", "a/b"], "--groups must be classes such as"),
        (["--groups", "0/0"], "two or more different labels"),
        (["--kernel", "cosine"], "--kernel must be one of"),
        (["--bound", "pinsker"], "--bound must be one of"),
        (["--delta", "0"], "--delta must lie in (0, 1)"),
        (["--kernel", "convolutional"], "x must hold images"),
        (["--seeds", "0"], "Invalid value for '--seeds'"),
    ],
)
def test_invalid_options_end_with_one_error(monkeypatch, tmp_path, capfd, arguments, message):
    assert run_command(monkeypatch, "certify", "--train", "40", "--out", tmp_path, *arguments) == 2
    printed = capfd.readouterr().err
    assert message in printed
    assert "Traceback" not in printed

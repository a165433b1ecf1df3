import pytest
import torch
import xarray as xr

from bayesgen import data, experiments
from bayesgen.commands.options import parse_groups
from tests.test_cli import run

SMALL = ["--train", "150", "--test", "60", "--levels", "0,0.5,1", "--groups", "0,1,2,3,4/5,6,7,8,9"]


def test_bounds_move_with_the_labels_and_rademacher_does_not():
    result = experiments.certify(
        "digits",
        train=250,
        test=200,
        levels=[0.0, 0.5, 1.0],
        lengthscales=[1.0, 2.0, 4.0],
        groups=[range(5), range(5, 10)],
    )
    bound, rademacher = result.bound[:, 0].values, result.rademacher[:, 0].values
    assert bound[0] < 0.35 < bound[1] < bound[2]
    assert bound[2] > 0.5  # vacuous on random labels
    assert (rademacher == 1).all()
    for name in ("rademacher_trace", "fat_shattering", "vc"):
        assert (result[name] == 1).all()
    assert (result.test_gibbs_risk < result.bound).all()
    assert (result.gibbs_risk < result.bound).all()
    assert (result.paid > result.complexity).all()
    evidence = result.log_marginal_likelihood[:, 0].values
    assert evidence[0] > evidence[1] > evidence[2]


def test_command_end_to_end(monkeypatch, tmp_path, capfd):
    assert not run(monkeypatch, "certify", *SMALL, "--out", tmp_path)
    printed = capfd.readouterr().out
    assert "digits, n = 150, 2 classes" in printed
    assert "Guessing has a risk of 0.5" in printed
    with xr.open_dataset(tmp_path / "certify.nc", engine="h5netcdf") as result:
        assert dict(result.sizes) == {"level": 3, "seed": 1}
        assert result.attrs["command"].startswith("bayesgen certify --train 150")
    assert (tmp_path / "certify.png").read_bytes().startswith(b"\x89PNG")


def test_convolutional_prior(monkeypatch, cifar, tmp_path, capfd):
    arguments = ["--data", "cifar10", "--data-dir", cifar, "--kernel", "convolutional"]
    assert not run(monkeypatch, "certify", *arguments, "--levels", "0,1", "--out", tmp_path)
    assert "cifar10, n = 100" in capfd.readouterr().out


def test_reproduce_germain(monkeypatch, tmp_path):
    monkeypatch.setattr(experiments.germain, "_function", lambda **more: _small(**more))
    assert not run(monkeypatch, "reproduce", "germain", "--out", tmp_path)
    assert (tmp_path / "germain.png").exists()


_GERMAIN = experiments.germain._function


def _small(**more):
    return _GERMAIN(sizes=(10, 100, 1000), **more)


def test_germain_figure_one():
    result = experiments.germain(sizes=(10, 100, 1_000, 100_000))
    total = result.risk + result.kl
    assert int(result.degree[total.values.argmin()]) == 3
    assert (result.kl.diff("degree") > 0).all()
    assert float(result.test_risk[6]) > float(result.test_risk[2])
    for name in ("catoni", "alquier_n", "alquier_sqrt"):
        assert (result[name] > result.clipped_expected_risk).all()
    assert (result.subgamma > result.expected_risk).all()
    # λ = √n converges, the others to something above the risk; sub-gamma is below λ = n's.
    gap = result.alquier_sqrt - result.clipped_expected_risk
    assert (gap.diff("n") < 0).all()
    assert (result.subgamma < result.alquier_n).all()


def test_groups():
    assert parse_groups("0,1/2") == [[0, 1], [2]]
    digits = data.load("digits")
    two = data.merge(digits, ([0, 2, 4, 6, 8], [1, 3, 5, 7, 9]))
    assert torch.equal(two.y_train, digits.y_train % 2)
    with pytest.raises(ValueError, match="two or more different labels"):
        data.merge(digits, ([0, 1], [1, 2]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--groups", "a/b"], "groups must be classes such as"),
        (["--groups", "0/0"], "two or more different labels"),
        (["--kernel", "cosine"], "kernel must be one of"),
        (["--bound", "pinsker"], "bound must be one of"),
        (["--delta", "0"], "delta must lie in (0, 1)"),
        (["--kernel", "convolutional"], "x must hold images"),
        (["--seeds", "0"], "seeds must be at least 1"),
    ],
)
def test_bad_input_is_one_clear_error(monkeypatch, tmp_path, capfd, arguments, message):
    assert run(monkeypatch, "certify", "--train", "40", "--out", tmp_path, *arguments) == 2
    printed = capfd.readouterr().err
    assert message in printed
    assert "Traceback" not in printed

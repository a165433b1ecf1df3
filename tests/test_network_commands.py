"""`bayesgen laplace` and `bayesgen dkl`, and the scores they print."""

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.metrics import log_loss

import bayesgen as bg
from bayesgen.experiments import laplace
from bayesgen.experiments.calibration import scores
from bayesgen.experiments.laplace import summary
from tests.test_cli import run

SMALL = ("--train", 80, "--test", 60, "--epochs", 10, "--steps", 30)


@pytest.fixture(scope="module")
def result():
    return laplace(
        curvatures=["ggn", "last_layer"],
        prior_precision=2.0,
        train_points=80,
        test=60,
        epochs=10,
        steps=200,
    )


def test_every_curvature_is_about_one_mode(result):
    assert (result.prior_precision == 2.0).all()
    assert (result.gain < 1e-2 * result.attrs["n"]).all()
    # The last layer alone pays for less.
    assert list(result.excludes.values) == ["", "features"]
    evidence = result.log_marginal_likelihood.values
    assert evidence[0] < evidence[1]
    np.testing.assert_allclose(result.fit - result.complexity, evidence)


def test_the_evidence_is_laplaces_own():
    made = laplace(
        curvatures=["ggn"], prior_precision=2.0, train_points=60, test=30, epochs=5, steps=20
    )
    data = bg.data.load("digits", train=60, test=30)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = bg.networks.MLP(64, (64,), 10).double()
    bg.train(
        net, data.x_train, data.y_train, epochs=5, prior_precision=2.0, optimiser="adam",
        learning_rate=3e-3, batch=64,
    )  # fmt: skip
    bg.fit_map(net, data.x_train, data.y_train, prior_precision=2.0, steps=20)
    own = bg.Laplace(net, prior_precision=2.0, hyperparameters="fixed")
    with pytest.warns(bg.NotAtModeWarning):
        posterior = own.fit(data.x_train, data.y_train)
    want = float(posterior.evidence.log_marginal_likelihood)
    assert float(made.log_marginal_likelihood[0]) == pytest.approx(want, abs=1e-6)


def test_summary_ends_with_the_mode(result):
    table = summary(result)
    assert list(table.index) == ["ggn", "last_layer", "the mode"]
    assert np.isnan(table.loc["the mode", "log p(D)/n"])
    assert table.loc["the mode", "NLL"] == float(result.mode_test_nll)


def test_laplace_command(monkeypatch, tmp_path, capsys):
    words = ("--network", "convnet", "--curvature", "kron,diag,last_layer")
    assert not run(monkeypatch, "laplace", *SMALL, *words, "--out", tmp_path)
    out = capsys.readouterr().out
    assert "convnet (" in out
    assert "Prior precision of each layer (learnt)" in out
    assert "last_layer: features not paid for" in out
    shown = [line.split() for line in out.splitlines() if line.startswith((" kron", " diag"))]
    assert all(len(row) == 9 and not any("…" in cell for cell in row) for row in shown)
    assert len(shown) == 2
    assert (tmp_path / "laplace.png").stat().st_size > 10_000
    with xr.open_dataset(tmp_path / "laplace.nc", engine="h5netcdf") as stored:
        assert list(stored.curvature.values) == ["kron", "diag", "last_layer"]
        assert len(stored.prior_precision) == 4


@pytest.mark.parametrize("network", ["preresnet20", "resnet18"])
def test_every_network(network):
    made = laplace(
        network=network, curvatures=["diag"], train_points=20, test=10, epochs=1, steps=2,
        dtype=torch.float32, prior_precision=1.0,
    )  # fmt: skip
    assert np.isfinite(made.log_marginal_likelihood).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--network", "forest"), "'forest'"),
        (("--curvature", "ggn,ggn"), "different names"),
        (("--curvature", "exact"), "'exact'"),
        (("--prior-precision", "-1"), "prior_precision"),
        (("--network", "lenet"), "12 pixels"),
        (("--level", "1.5"), "level"),
        (("--steps", "0"), "steps"),
    ],
)
def test_bad_words_are_named(monkeypatch, tmp_path, capsys, words, message):
    assert run(monkeypatch, "laplace", *SMALL, *words, "--out", tmp_path) == 2
    assert message in capsys.readouterr().err


def test_dkl_command(monkeypatch, tmp_path, capsys):
    words = ("--train", 40, "--test", 30, "--levels", "0", "--out", tmp_path)
    assert not run(monkeypatch, "dkl", *words)
    out = capsys.readouterr().out
    assert "dkl-prior" in out
    assert "unpaid: features" in out
    assert (tmp_path / "dkl.png").stat().st_size > 10_000
    with xr.open_dataset(tmp_path / "dkl.nc", engine="h5netcdf") as stored:
        unpaid = dict(zip(stored.model.values, stored.excludes.values, strict=True))
    assert unpaid["gp"] == unpaid["dkl-prior"] == ""
    assert unpaid["dkl"] == unpaid["dkl-lipschitz"] == "features"


# ---------------------------------------------------------------- scores


def test_scores_against_scikit_learn_and_by_hand():
    g = torch.Generator().manual_seed(0)
    p = torch.rand(200, 4, generator=g, dtype=torch.float64).softmax(1)
    y = torch.randint(4, (200,), generator=g)
    found = scores(p, y, bins=10)
    assert found.nll == pytest.approx(log_loss(y, p, labels=range(4)))
    assert found.error == float((p.argmax(1) != y).double().mean())
    confidence, total = p.amax(1), 0.0
    for b in range(10):
        here = (confidence >= b / 10) & (confidence < (b + 1) / 10)
        if here.any():
            hit = (p.argmax(1) == y)[here].double().mean()
            total += float(here.double().mean() * (hit - confidence[here].mean()).abs())
    assert found.ece == pytest.approx(total)


def test_labels_drawn_from_the_probabilities_are_calibrated():
    g = torch.Generator().manual_seed(0)
    p = (3 * torch.randn(40_000, 5, generator=g, dtype=torch.float64)).softmax(1)
    y = torch.multinomial(p, 1, generator=g)[:, 0]
    assert scores(p, y).ece < 0.01


@pytest.mark.parametrize(
    ("p", "y", "message"),
    [
        ([[0.5, 0.6]], [0], "sum to one"),
        ([[0.5, float("nan")]], [0], "finite"),
        ([[0.5, 0.5]], [2], "from 0 to 1"),
        ([[0.5, 0.5]], [0.0], "integers"),
        ([[0.5, 0.5]], [0, 1], "1 integers"),
        ([0.5, 0.5], [0], "shape"),
    ],
)
def test_bad_scores_are_refused(p, y, message):
    with pytest.raises(ValueError, match=message):
        scores(p, y)

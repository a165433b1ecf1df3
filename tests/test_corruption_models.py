import importlib
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

import bayesgen as bg
from bayesgen import cli
from bayesgen.experiments.corruption_models import MODELS, summary
from bayesgen.experiments.networks import NETWORKS, images

LEVELS = [0.0, 1.0]
SMALL = ["gp", "polynomial", "dkl", "gp-laplace", "mlp"]


@pytest.fixture(scope="module")
def result():
    return bg.experiments.corruption_models("digits", SMALL, train=90, test=80, levels=LEVELS)


def test_what_the_dataset_holds(result):
    assert dict(result.sizes) == {"model": 5, "level": 2, "seed": 1}
    for name in ("log_marginal_likelihood", "fit", "complexity", "train_error", "test_error"):
        assert result[name].dims == ("model", "level", "seed")
        assert np.isfinite(result[name]).all()
        assert result[name].attrs["units"]
    gap = result.fit - result.complexity - result.log_marginal_likelihood
    assert abs(gap).max() < 1e-6
    assert {"command", "versions", "data_fingerprint"} <= set(result.attrs)


def test_evidence_falls_with_corruption_for_every_model(result):
    assert (result.log_marginal_likelihood.diff("level") < 0).all()
    assert (result.test_error.diff("level") > 0.3).all()
    unpaid = dict(zip(result.model.values, result.excludes.values, strict=True))
    assert {name for name, what in unpaid.items() if what} == {"dkl"}


def test_a_cell_is_the_models_own_fit(result):
    data = bg.data.load("digits", train=90, test=80)
    labels, _ = bg.corrupt_labels(data.y_train, 1.0, num_classes=10, seed=0)
    posterior = bg.GaussianProcess(bg.kernels.named("rbf")).fit(
        data.x_train, bg.likelihoods.one_hot(labels, 10)
    )
    got = float(result.sel(model="gp", level=1.0, seed=0).log_marginal_likelihood)
    assert got == pytest.approx(float(posterior.evidence.log_marginal_likelihood), rel=1e-6)


def test_a_residual_network_runs_on_images():
    g = torch.Generator().manual_seed(0)
    data = bg.data.restrict(bg.data.load("digits", train=40, test=20), (0, 1))
    cell = MODELS["resnet"].run(data, torch.randint(2, (len(data.y_train),), generator=g), 0)
    assert torch.isfinite(cell.evidence.log_marginal_likelihood)
    assert cell.fitted.shape == (len(data.y_train), 2)
    labels = torch.randint(2, (len(data.y_train),), generator=g.manual_seed(0))
    assert torch.nn.functional.cross_entropy(cell.fitted, labels) < 1.001e-3
    with pytest.raises(ValueError, match="square images"):
        images(torch.zeros(2, 7))


def test_networks_are_compared_at_one_loss():
    data = bg.data.load("digits", train=60, test=20)
    labels = torch.stack(
        [bg.corrupt_labels(data.y_train, 1.0, num_classes=10, seed=seed)[0] for seed in (0, 1)]
    )
    mlp = replace(NETWORKS["mlp"], loss=0.005)
    both = [mlp.alone(data, labels[0], 0), mlp.together(data, labels, [0, 1])[1]]
    for cell, own in zip(both, labels, strict=True):
        loss = torch.nn.functional.cross_entropy(cell.fitted, own)
        assert float(loss) == pytest.approx(0.005, rel=1e-3)


def test_networks_may_train_together(monkeypatch, tmp_path):
    trained = []
    study = bg.experiments.corruption_models
    module = importlib.import_module("bayesgen.experiments.networks")
    original = module.train_ensemble

    def counted(nets, *given, **settings):
        trained.append(len(nets))
        return original(nets, *given, **settings)

    monkeypatch.setattr(module, "train_ensemble", counted)
    settings = {
        "models": ["mlp"], "levels": LEVELS, "seeds": 2, "train": 60, "test": 40,
        "store": tmp_path, "ensemble": True,
    }  # fmt: skip
    first = study("digits", **settings)
    assert trained == [4]
    assert (first.train_error < 0.05).all()
    assert (first.log_marginal_likelihood.diff("level") < 0).all()
    again = study("digits", **settings)  # from the store: nothing is trained
    assert trained == [4]
    np.testing.assert_array_equal(first.log_marginal_likelihood, again.log_marginal_likelihood)


def test_summary_and_figure(result):
    table = summary(result)
    assert list(table.columns) == SMALL
    assert list(table.index) == LEVELS
    assert len(bg.experiments.corruption_models.plot(result).axes) == 4


def test_a_killed_study_goes_on_from_its_store(monkeypatch, tmp_path):
    from bayesgen.experiments import corruption_models as study

    settings = {"train": 60, "test": 40, "levels": LEVELS, "store": tmp_path}
    whole = study("digits", ["gp"], **settings)
    cells = sorted(tmp_path.iterdir())
    assert len(cells) == 2
    cells[1].write_bytes(cells[1].read_bytes()[:20])  # cut in half: computed anew
    calls, gp = [], MODELS["gp"]

    def counted(*given):
        calls.append(given)
        return gp.run(*given)

    monkeypatch.setitem(MODELS, "gp", type(gp)(gp.says, gp.kind, counted))
    again = study("digits", ["gp"], **settings)
    assert len(calls) == 1
    np.testing.assert_array_equal(again.log_marginal_likelihood, whole.log_marginal_likelihood)
    study("digits", ["gp"], **settings | {"train": 61})
    assert len(calls) == 3  # other data are other cells


def run(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["bayesgen", "corruption", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


def test_command(monkeypatch, tmp_path, capsys):
    words = ("--model", "gp, mlp", "--train", "60", "--test", "40", "--levels", "0,1")
    assert not run(monkeypatch, *words, "--seeds", "1", "--out", str(tmp_path))
    out = capsys.readouterr().out
    assert "of density" in out
    assert "of labels" in out
    assert (tmp_path / "corruption.png").stat().st_size > 10_000
    with xr.open_dataset(tmp_path / "corruption.nc", engine="h5netcdf") as stored:
        assert list(stored.model.values) == ["gp", "mlp"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "gp,forest"), "'forest'"),
        (("--model", "gp,gp"), "different names"),
        (("--model", "mlp", "--noise", "0.1"), "--model gp alone"),
    ],
)
def test_bad_words_are_named(monkeypatch, tmp_path, capsys, words, message):
    assert run(monkeypatch, *words, "--out", str(tmp_path)) == 2
    assert message in capsys.readouterr().err

"""Tests of `bayesgen.experiments.corruption_models`."""

import numpy as np
import pytest

import bayesgen as bg
from bayesgen.experiments.corruption_models import MODELS, summary

LEVELS = [0.0, 1.0]


SMALL = ["gp", "polynomial", "dkl", "gp-laplace", "mlp"]


@pytest.fixture(scope="module")
def result():
    return bg.experiments.corruption_models("digits", SMALL, train=90, test=80, levels=LEVELS)


def test_dataset_has_named_finite_variables(result):
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


def test_cell_equals_fit_of_its_model(result):
    data = bg.data.load("digits", train=90, test=80)
    labels, _ = bg.corrupt_labels(data.y_train, 1.0, num_classes=10, seed=0)
    posterior = bg.GaussianProcess(bg.kernels.named("rbf")).fit(
        data.x_train, bg.likelihoods.one_hot(labels, 10)
    )
    got = float(result.sel(model="gp", level=1.0, seed=0).log_marginal_likelihood)
    assert got == pytest.approx(float(posterior.evidence.log_marginal_likelihood), rel=1e-6)


def test_summary_and_figure_cover_all_models(result):
    table = summary(result)
    assert list(table.columns) == SMALL
    assert list(table.index) == LEVELS
    assert len(bg.experiments.corruption_models.plot(result).axes) == 4


def test_killed_study_resumes_from_store(monkeypatch, tmp_path):
    from bayesgen.experiments import corruption_models as study

    settings = {"train": 60, "test": 40, "levels": LEVELS, "store": tmp_path}
    whole = study("digits", ["gp"], **settings)
    cells = sorted(tmp_path.iterdir())
    assert len(cells) == 2
    cells[1].write_bytes(cells[1].read_bytes()[:20])  # A cell cut in half is computed anew.
    calls, gp = [], MODELS["gp"]

    def counted(*given):
        calls.append(given)
        return gp.run(*given)

    monkeypatch.setitem(MODELS, "gp", type(gp)(gp.says, gp.kind, counted))
    again = study("digits", ["gp"], **settings)
    assert len(calls) == 1
    np.testing.assert_array_equal(again.log_marginal_likelihood, whole.log_marginal_likelihood)
    study("digits", ["gp"], **settings | {"train": 61})
    assert len(calls) == 3  # Other data are other cells.

"""Tests of `bayesgen.experiments.corruption`."""

import numpy as np
import pytest
import torch
import xarray as xr

import bayesgen as bg
from bayesgen.experiments.corruption import summary

LEVELS = [0.0, 0.5, 1.0]


@pytest.fixture(scope="module")
def result():
    return bg.experiments.corruption("digits", train=200, test=150, levels=LEVELS, seeds=2)


def test_dataset_has_named_finite_variables(result):
    assert dict(result.sizes) == {"level": 3, "seed": 2}
    for name in result.data_vars:
        assert result[name].dims == ("level", "seed")
        assert result[name].attrs["long_name"]
        assert result[name].attrs["units"]
        assert np.isfinite(result[name]).all()
    assert {"command", "versions", "created", "data_fingerprint", "n"} <= set(result.attrs)
    assert "torch" in result.attrs["versions"]


def test_evidence_falls_and_error_rises_with_corruption(result):
    mean = result.mean("seed")
    assert (mean.log_marginal_likelihood.diff("level") < 0).all()
    assert (mean.log_marginal_likelihood_interpolating.diff("level") < 0).all()
    assert (mean.test_error.diff("level") > 0).all()
    assert (result.train_error_interpolating == 0).all()
    identity = result.fit - result.complexity - result.log_marginal_likelihood
    assert abs(identity).max() < 1e-8
    assert result.altered.sel(level=0.0).max() == 0


def test_cell_equals_fit_to_its_labels(result):
    data = bg.data.load("digits", train=200, test=150)
    labels, _ = bg.corrupt_labels(data.y_train, 0.5, num_classes=10, seed=1)
    kernel = bg.kernels.named("rbf")
    posterior = bg.GaussianProcess(kernel).fit(data.x_train, bg.likelihoods.one_hot(labels, 10))
    cell = result.sel(level=0.5, seed=1)
    gap = posterior.evidence.log_marginal_likelihood.item() - float(cell.log_marginal_likelihood)
    assert abs(gap) < 0.1  # Both are within the search's tolerance of one optimum.
    error = (posterior.mean(data.x_test).argmax(-1) != data.y_test).double().mean().item()
    assert error == pytest.approx(float(cell.test_error), abs=0.02)


def test_study_is_deterministic_and_survives_netcdf(result, tmp_path):
    again = bg.experiments.corruption("digits", train=200, test=150, levels=LEVELS, seeds=2)
    result.to_netcdf(tmp_path / "r.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "r.nc", engine="h5netcdf") as back:
        for name in result.data_vars:
            np.testing.assert_array_equal(again[name], back[name])
        assert back.attrs["command"] == again.attrs["command"]


def test_labels_of_a_seed_do_not_depend_on_other_seeds(result):
    one = bg.experiments.corruption("digits", train=200, test=150, levels=[0.5], seeds=[1])
    assert float(one.altered[0, 0]) == float(result.altered.sel(level=0.5, seed=1))


@pytest.mark.parametrize(
    "choice",
    [
        {"noise": 1e-4},
        {"targets": "dirichlet"},
        {"kind": "flip"},
        {"kernel": "matern52"},
        {"kernel": lambda a, b: torch.exp(-torch.cdist(a, b))},
        {"dtype": torch.float32},
    ],
    ids=["noise", "targets", "kind", "kernel", "function", "dtype"],
)
def test_every_option_gives_finite_evidence(choice):
    result = bg.experiments.corruption(
        "digits", train=60, test=40, levels=[0.0, 0.6], seeds=1, **choice
    )
    assert np.isfinite(result.log_marginal_likelihood).all()
    if choice.get("noise"):
        assert (result.noise == 1e-4).all()
        assert (result.train_error == 0).all()
    if choice.get("dtype"):
        assert (result.evidence_error > 1e-3).all()


def test_summary_averages_seeds_and_plot_has_four_axes(result):
    table = summary(result)
    assert list(table.index) == LEVELS
    want = float(result.log_marginal_likelihood.sel(level=0.5).mean()) / 200
    assert table.loc[0.5, "log p(D) / n"] == pytest.approx(want)
    figure = bg.experiments.corruption.plot(result)
    assert len(figure.axes) == 4
    assert bg.plots.corruption(result).axes[0].get_title().startswith("Evidence")
    with pytest.raises(ValueError, match="result must be what experiments.corruption returns"):
        bg.plots.corruption(result.drop_vars("fit"))


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"levels": [0.0, 1.5]}, ValueError, r"levels must lie in \[0, 1\], got 1.5"),
        ({"levels": [0.5, 0.2]}, ValueError, "levels must be one or more increasing numbers"),
        ({"levels": []}, ValueError, "levels must be one or more"),
        ({"seeds": 0}, ValueError, "seeds must be at least 1"),
        ({"seeds": [1, 1]}, ValueError, "seeds must be a count or a list of different"),
        ({"kernel": "rfb"}, ValueError, "must be made of"),
        ({"targets": "soft"}, ValueError, "targets must be one of 'one-hot', 'dirichlet'"),
        ({"targets": "dirichlet", "noise": 0.1}, ValueError, "noise must be None with dirichlet"),
        ({"data": 3}, TypeError, "data must be a name or a Dataset, got int"),
    ],
)
def test_invalid_arguments_raise(arguments, kind, message):
    with pytest.raises(kind, match=message):
        bg.experiments.corruption(**arguments)


def test_a_text_of_a_kernel_may_name_any_column_of_the_images():
    few = {"train": 40, "test": 20, "levels": [0.0], "seeds": 1}
    text = "rbf(column=20) + rbf(column=43)"
    found = bg.experiments.corruption("digits", kernel=text, **few)
    assert np.isfinite(found.log_marginal_likelihood).all()
    with pytest.raises(ValueError, match="must have a column below 64, counted from 0, got 64"):
        bg.experiments.corruption("digits", kernel="rbf(column=64)", **few)
    with pytest.raises(ValueError, match="did you mean 'rbf'"):
        bg.experiments.corruption("no such data", kernel="rfb", **few)

"""Tests of `bayesgen.experiments.label_noise` and of `bayesgen.plots.label_noise`."""

import inspect

import pytest
import torch
from torch import nn

from bayesgen import experiments
from bayesgen.experiments import networks


def test_gaussian_process_fits_noise_and_its_evidence_falls():
    result = experiments.gaussian_process_label_noise(
        "digits", train=200, test=200, levels=[0.0, 0.5, 1.0], seeds=2
    )
    means = result.mean("seed")
    assert (means.train_error_interpolating == 0).all()
    assert (means.log_marginal_likelihood.diff("level") < -0.2 * 200).all()
    assert float(means.test_error.sel(level=0.5)) < 0.5
    assert result.attrs["holds"] == "yes"
    assert len(experiments.gaussian_process_label_noise.plot(result).axes) == 2


def test_network_is_that_of_the_study_of_several_models(monkeypatch, tmp_path):
    small = networks.Architecture(
        lambda data: nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10)),
        lambda data: (data.x_train.float(), data.x_test.float()),
        {"epochs": 300, "optimiser": "adam", "learning_rate": 1e-2},
    )
    model = inspect.unwrap(experiments.corruption_models).__globals__["MODELS"]
    said = model["resnet"]
    monkeypatch.setitem(model, "resnet", type(said)(said.says, said.kind, small.alone))
    settings = {"train": 60, "test": 50, "levels": [0.0, 1.0], "seeds": 1}
    result = experiments.resnet_label_noise("digits", store=tmp_path, **settings)
    direct = experiments.corruption_models("digits", ["resnet"], **settings)
    for name in ("log_marginal_likelihood", "test_error", "train_error"):
        assert result[name].values.tolist() == direct[name][0].values.tolist()
    assert dict(result.sizes) == {"level": 2, "seed": 1}
    assert len(list(tmp_path.iterdir())) == 2
    assert "The largest training error at any level is" in result.attrs["found"]
    assert len(experiments.resnet_label_noise.plot(result).axes) == 2


def test_wrong_levels_are_named():
    with pytest.raises(ValueError, match="levels must be"):
        experiments.gaussian_process_label_noise("digits", levels=[0.5, 0.1])
    assert torch.initial_seed() == 0  # The generator of the user is left alone.


def test_generalisation_is_judged_at_an_inner_level_only():
    settings = {"train": 60, "test": 50, "seeds": 1}
    for levels in ([0.0, 1.0], [0.5]):
        result = experiments.gaussian_process_label_noise("digits", levels=levels, **settings)
        assert result.attrs["holds"] != "yes"

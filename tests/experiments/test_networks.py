"""Tests of `bayesgen.experiments.networks`."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
import torch

import bayesgen as bg
from bayesgen.experiments.corruption_models import MODELS
from bayesgen.experiments.networks import NETWORKS, images

LEVELS = [0.0, 1.0]


def test_residual_network_trains_on_images_to_stated_loss():
    g = torch.Generator().manual_seed(0)
    data = bg.data.restrict(bg.data.load("digits", train=40, test=20), (0, 1))
    cell = MODELS["resnet"].run(data, torch.randint(2, (len(data.y_train),), generator=g), 0)
    assert torch.isfinite(cell.evidence.log_marginal_likelihood)
    assert cell.fitted.shape == (len(data.y_train), 2)
    labels = torch.randint(2, (len(data.y_train),), generator=g.manual_seed(0))
    assert torch.nn.functional.cross_entropy(cell.fitted, labels) < 1.001e-3
    with pytest.raises(ValueError, match="square images"):
        images(torch.zeros(2, 7))


def test_networks_reach_one_training_loss():
    data = bg.data.load("digits", train=60, test=20)
    labels = torch.stack(
        [bg.corrupt_labels(data.y_train, 1.0, num_classes=10, seed=seed)[0] for seed in (0, 1)]
    )
    mlp = replace(NETWORKS["mlp"], loss=0.005)
    both = [mlp.alone(data, labels[0], 0), mlp.together(data, labels, [0, 1])[1]]
    for cell, own in zip(both, labels, strict=True):
        loss = torch.nn.functional.cross_entropy(cell.fitted, own)
        assert float(loss) == pytest.approx(0.005, rel=1e-3)


def test_networks_train_together_as_ensemble(monkeypatch, tmp_path):
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
    again = study("digits", **settings)  # With the store nothing is trained.
    assert trained == [4]
    np.testing.assert_array_equal(first.log_marginal_likelihood, again.log_marginal_likelihood)

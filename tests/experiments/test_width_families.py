"""Tests of `bayesgen.experiments.width_families`."""

import numpy as np
import pytest
import torch

import bayesgen as bg
from bayesgen.experiments import width_families
from bayesgen.experiments.width_families import FAMILIES, WidthTask, train_all


def task(name="mlp", width=3, seeds=(0, 1), epochs=5, train=40):
    data = bg.data.load("digits", train=train, test=50, dtype=torch.float32)
    labels = torch.stack(
        [bg.corrupt_labels(data.y_train, 0.2, num_classes=10, seed=s)[0] for s in seeds]
    )
    return WidthTask(name, width, data, 0.2, labels, seeds, epochs)


def test_networks_trained_together_take_the_steps_of_adam_alone():
    one = task()
    x, y = one.data.x_train, one.family.targets(one.labels, 10)
    nets = [one.family.network(3, one.data, seed) for seed in one.seeds]
    alone = [one.family.network(3, one.data, seed) for seed in one.seeds]
    width_families.train_two_layers(nets, x, y, one.seeds, 6)
    for net, own, targets in zip(nets, alone, y, strict=True):
        optimiser = torch.optim.Adam(own.parameters())
        for step in range(6):
            optimiser.param_groups[0]["lr"] = 1.5e-3 * (1 + np.cos(np.pi * step / 6))
            optimiser.zero_grad()
            (own(x) - targets).square().sum(1).mean().backward()
            optimiser.step()
        with torch.no_grad():
            assert torch.allclose(net(x), own(x), atol=1e-3)


def test_batched_networks_that_differ_from_single_ones_are_refused(monkeypatch):
    one = task()
    nets = [one.family.network(3, one.data, seed) for seed in one.seeds]
    nets[1][2] = torch.nn.Tanh()
    y = one.family.targets(one.labels, 10)
    with pytest.raises(RuntimeError, match="differ from single ones"):
        width_families.train_two_layers(nets, one.data.x_train, y, one.seeds, 1)


@pytest.mark.parametrize("name", ["mlp", "convnet", "resnet18"])
def test_restored_network_has_the_recorded_losses(name):
    one = task(name, width=2, seeds=(3,), epochs=1)
    (cell,) = train_all([one])
    net = width_families.restored(one, cell["state"][0], 3)
    x, new = one.family.inputs(one.data)
    with torch.no_grad():
        loss = one.family.loss(net(x), one.family.targets(one.labels[0], 10))
        error = (net(new).argmax(1) != one.data.y_test).double().mean()
    assert float(loss) == pytest.approx(cell["train_loss"][0], rel=1e-4)
    assert float(error) == pytest.approx(cell["test_error"][0])
    assert cell["parameters"] == sum(p.numel() for p in net.parameters())


def test_resumed_training_equals_an_uninterrupted_one(tmp_path):
    tasks = [task(width=2), task(width=4)]
    train_all(tasks[:1], store=tmp_path)
    resumed = train_all(tasks, store=tmp_path)
    for cell, fresh in zip(resumed, train_all(tasks), strict=True):
        for name in ("state", "test_loss"):
            np.testing.assert_array_equal(np.asarray(cell[name]), np.asarray(fresh[name]))


def test_crop_and_flip_moves_each_image_as_a_whole():
    x = torch.arange(2 * 3 * 6 * 6, dtype=torch.float32).reshape(2, 3, 6, 6) + 1
    moved = width_families.cropped_and_flipped(0, padding=2)(x)
    assert moved.shape == x.shape
    padded = torch.nn.functional.pad(x, [2] * 4)
    for image, source in zip(moved, padded, strict=True):
        views = [
            view
            for i in range(5)
            for j in range(5)
            for view in (source[:, i : i + 6, j : j + 6], source[:, i : i + 6, j : j + 6])
        ]
        assert any(torch.equal(image, v) or torch.equal(image, v.flip(2)) for v in views)
    state = torch.get_rng_state()
    width_families.cropped_and_flipped(1)(x)
    assert torch.equal(state, torch.get_rng_state())


def test_losses_are_negative_log_likelihoods_up_to_a_constant():
    f, other = torch.randn(2, 6, 10)
    labels = torch.arange(6)
    for family in (FAMILIES["mlp"], FAMILIES["convnet"]):
        y = family.targets(labels, 10)
        own = family.likelihood().for_outputs(10, y.shape)
        inner = own.targets(y, f)[0]
        gaps = [-own.log_density(inner, g).sum() / 6 - family.loss(g, y) for g in (f, other)]
        assert float(gaps[0]) == pytest.approx(float(gaps[1]), abs=1e-5)

"""Tests of `bayesgen.training.ensemble`."""

import copy
import math

import pytest
import torch
from torch import nn

import bayesgen as bg
from tests.training.problems import mlp


def test_ensemble_equals_separate_runs(digits):
    x, y = digits.x_train, digits.y_train
    labels = torch.stack([bg.corrupt_labels(y, c, num_classes=10, seed=0)[0] for c in (0, 0.5, 1)])
    alone = [mlp(s) for s in range(3)]
    together = copy.deepcopy(alone)
    settings = {"epochs": 4, "batch": 40, "prior_precision": 0.3, "learning_rate": 0.1}
    losses = bg.train_ensemble(together, x, labels, **settings)
    for b, (one, other) in enumerate(zip(alone, together, strict=True)):
        run = bg.train(one, x, labels[b], **settings)
        torch.testing.assert_close(losses[b].iloc[-1], run.history.loss.iloc[-1], rtol=1e-4, atol=0)
        for p, q in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-5)


def test_ensemble_keeps_batch_statistics_of_each_member():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(24, 1, 8, 8, generator=g)
    y = torch.randint(3, (2, 24), generator=g)
    torch.manual_seed(0)
    alone = [bg.networks.PreResNet20(1, 3, channels=1) for _ in range(2)]
    together = copy.deepcopy(alone)
    settings = {"epochs": 2, "batch": 12, "learning_rate": 0.05}
    bg.train_ensemble(together, x, y, **settings)
    for b, (one, other) in enumerate(zip(alone, together, strict=True)):
        bg.train(one, x, y[b], **settings)
        for name, value in one.state_dict().items():
            torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_ensemble_names_member_with_infinite_loss(digits):
    nets = [mlp(0), mlp(1)]
    with torch.no_grad():
        nets[1][1].weight.fill_(math.inf)
    with pytest.raises((bg.DivergedError, ValueError), match=r"\[1\]|not finite"):
        bg.train_ensemble(nets, digits.x_train, digits.y_train.expand(2, -1), epochs=1)


@pytest.mark.cuda
def test_ensemble_trains_on_device(digits):
    device = torch.device("cuda")
    nets = [mlp(s).to(device) for s in range(4)]
    x, y = digits.x_train.to(device), digits.y_train.to(device)
    losses = bg.train_ensemble(nets, x, y.expand(4, -1), epochs=20)
    assert losses.iloc[-1].max() < losses.iloc[0].min()


def test_counts_are_trained_together_as_alone():
    torch.manual_seed(0)
    x, y = torch.randn(11, 2), torch.randint(0, 4, (2, 11))
    nets = [nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)) for _ in range(2)]
    alone = copy.deepcopy(nets)
    settings = {"epochs": 3, "batch": 4, "learning_rate": 0.05}
    losses = bg.train_ensemble(nets, x, y, "poisson", **settings)
    for number, net in enumerate(alone):
        run = bg.train(net, x, y[number], "poisson", **settings)
        torch.testing.assert_close(
            torch.tensor(losses[number].to_numpy()), torch.tensor(run.history.loss.to_numpy())
        )


@pytest.mark.parametrize("nets", [nn.Sequential(nn.Linear(2, 3)), None, 3], ids=range(3))
def test_what_is_no_sequence_of_networks_is_refused(nets):
    with pytest.raises(TypeError, match="nets must be a sequence of networks"):
        bg.train_ensemble(nets, torch.zeros(4, 2), torch.zeros(1, 4).long(), epochs=1)

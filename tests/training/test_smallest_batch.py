"""Tests of `bayesgen.training.smallest_batch`."""

import pytest
import torch
from torch import nn

import bayesgen as bg
from bayesgen.networks.gradients import Passes
from bayesgen.training.settings import Settings
from bayesgen.training.smallest_batch import smallest_batch
from tests.networks import kinds


def settings(batch):
    return Settings(2, batch, "sgd", 0.01, 0.0, "constant", "native", 0)


def normed():
    return kinds.FREE["batch norm"]()


def needed(net, x, batch):
    run = Passes(net.eval(), x)
    before = kinds.state(net)
    found = smallest_batch(net, run, x, settings(batch))
    after = kinds.state(net)
    assert all(torch.equal(v, w) for v, w in zip(before["values"], after["values"], strict=True))
    return found


@pytest.mark.parametrize(
    ("make", "batch", "want"),
    [
        (kinds.base, 16, 1),
        (kinds.base, 1, 1),
        (normed, 16, 2),
        (normed, 11, 1),
        (normed, None, 1),
        (lambda: nn.Sequential(nn.BatchNorm1d(3), kinds.base(2)).double(), 8, 2),
        (lambda: kinds.Through(lambda net, x: net((x - x.mean(0)) / x.std(0))), 16, 2),
    ],
)
def test_two_rows_are_needed_where_one_fails(make, batch, want):
    with torch.random.fork_rng():
        assert needed(make(), kinds.data()[0], batch) == want


def test_images_with_batch_norm_need_one_row_only():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 1))
    x = torch.randn(33, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert needed(net.double(), x, 16) == 1


def test_a_last_observation_joins_the_step_before():
    x, y = kinds.data()
    ours, theirs = normed(), normed()
    run = bg.train(
        ours, x, y, "gaussian", noise=1.0, epochs=2, batch=16, learning_rate=0.01, momentum=0.0,
        schedule="constant",
    )  # fmt: skip
    theirs.train()
    for epoch in range(2):
        for index in settings(16).order(epoch, 33, 2):
            f = theirs(x[index])[:, 0]
            loss = -torch.distributions.Normal(f, 1.0).log_prob(y[index]).mean()
            slopes = torch.autograd.grad(loss, list(theirs.parameters()))
            with torch.no_grad():
                for p, slope in zip(theirs.parameters(), slopes, strict=True):
                    p -= 0.01 * slope
    assert len(run.history) == 2
    for value, want in zip(kinds.state(ours)["values"], kinds.state(theirs)["values"], strict=True):
        torch.testing.assert_close(value, want, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("n", "batch"), [(33, 1), (1, None)])
def test_single_observations_are_refused_before_any_step(n, batch):
    x, y = kinds.data()
    net = normed()
    before = kinds.state(net)
    with pytest.raises(ValueError, match="cannot be trained on batches of one observation"):
        bg.train(net, x[:n], y[:n], "gaussian", noise=1.0, batch=batch)
    assert kinds.same_state(before, kinds.state(net))

"""Tests of `bayesgen.training.train`."""

import math

import pytest
import torch
from torch import nn

import bayesgen as bg
from tests.training.problems import mlp, same


@pytest.mark.parametrize(("optimiser", "batch"), [("sgd", 30), ("adam", 30), ("sgd", None)])
def test_training_fits_labels(digits, optimiser, batch):
    run = bg.train(
        mlp(), digits.x_train, digits.y_train, epochs=40, batch=batch, optimiser=optimiser,
        learning_rate={"sgd": 0.2, "adam": 0.01}[optimiser],
    )  # fmt: skip
    assert run.history.error.iloc[-1] < 0.1
    assert run.history.loss.iloc[-1] < run.history.loss.iloc[0]
    assert not run.net.training


def test_training_ends_at_mode_of_log_posterior(digits):
    """Full-batch gradient descent to the end finds the mode of the log posterior."""
    x, y = digits.x_train, digits.y_train
    net = nn.Linear(64, 10).double()
    nn.init.zeros_(net.weight)
    nn.init.zeros_(net.bias)
    bg.train(
        net, x.double(), y, epochs=3000, batch=None, learning_rate=0.5, prior_precision=20.0,
        schedule="constant",
    )  # fmt: skip
    log_joint = -nn.functional.cross_entropy(net(x.double()), y, reduction="sum")
    log_joint = log_joint - 10.0 * sum(p.square().sum() for p in net.parameters())
    slope = torch.autograd.grad(log_joint, list(net.parameters()))
    assert max(float(g.abs().max()) for g in slope) < 1e-4


def test_same_seed_gives_same_weights(digits):
    runs = [bg.train(mlp(), digits.x_train, digits.y_train, epochs=3).net for _ in range(2)]
    same(*runs)
    other = bg.train(mlp(), digits.x_train, digits.y_train, epochs=3, seed=1).net
    assert not torch.equal(runs[0][1].weight, other[1].weight)


def test_nan_raises_with_step_and_keeps_last_good_epoch(digits, tmp_path):
    path = tmp_path / "run.pt"
    calls = 0

    def poison(x):
        nonlocal calls
        calls += 1
        return x * math.nan if calls == 8 else x

    net = mlp()
    with pytest.raises(bg.DivergedError, match="nan at step 2 of epoch 3"):
        bg.train(
            net, digits.x_train, digits.y_train, epochs=5, batch=40, augment=poison, checkpoint=path
        )
    good = bg.train(mlp(), digits.x_train, digits.y_train, epochs=5, batch=40, progress=None)
    state = torch.load(path, weights_only=True)
    assert state["epoch"] == 2
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, state["net"][name], rtol=0, atol=0)
    assert torch.isfinite(good.net[1].weight).all()


def test_online_precision_raises_evidence(digits):
    """Immer et al. (2021): precisions chosen on the way beat one that was kept."""
    x, y = digits.x_train, digits.y_train
    settings = {"epochs": 150, "optimiser": "adam", "learning_rate": 5e-3}
    kept = bg.train(mlp(), x, y, prior_precision=1e-3, **settings).net
    online = bg.train(mlp(), x, y, evidence_every=10, keep="best", **settings)
    with pytest.warns(bg.NotAtModeWarning):
        before = bg.Laplace(kept, curvature="kron").fit(x, y)
    assert online.evidence.per_observation > before.evidence.per_observation + 0.2
    assert online.evidence.per_observation > -math.log(10)
    seen = online.history.log_evidence.dropna()
    assert float(online.evidence.per_observation) == pytest.approx(seen.max())
    assert seen.iloc[-1] > seen.iloc[0]


def test_online_evidence_learns_noise():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(200, 3, generator=g, dtype=torch.float64)
    y = x @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    y = y + 0.3 * torch.randn(200, generator=g, dtype=torch.float64)
    net = nn.Linear(3, 1).double()
    run = bg.train(net, x, y, "gaussian", epochs=60, learning_rate=0.05, evidence_every=5)
    assert float(run.noise) == pytest.approx(0.09, rel=0.2)


def test_bf16_is_used_only_when_asked(digits):
    run = bg.train(mlp(), digits.x_train, digits.y_train, epochs=2, arithmetic="bf16")
    plain = bg.train(mlp(), digits.x_train, digits.y_train, epochs=2)
    assert run.net[1].weight.dtype == torch.float32
    assert not torch.equal(run.net[1].weight, plain.net[1].weight)


def test_bar_shows_loss_and_time_left(digits, capfd):
    net = bg.networks.MLP(64, (8,), 10)
    bg.train(net, digits.x_train, digits.y_train, epochs=2, evidence_every=1, progress=True)
    shown = capfd.readouterr().err
    assert "loss" in shown
    assert "left" in shown
    bg.train_ensemble([net], digits.x_train, digits.y_train[None], epochs=1, progress=True)
    assert "mean loss" in capfd.readouterr().err


def test_arguments_of_other_kinds_are_named(digits):
    x, y = digits.x_train, digits.y_train
    with pytest.raises(TypeError, match="progress must be a function"):
        bg.train(mlp(), x, y, epochs=1, progress=3)
    with pytest.raises(TypeError, match="prior_precision must be a number"):
        bg.train(mlp(), x, y, epochs=1, prior_precision="layer")
    with pytest.raises(ValueError, match="augment must return inputs that net takes"):
        bg.train(mlp(), x, y, epochs=1, augment=lambda rows: rows[:, :2])


@pytest.mark.parametrize("net", ["net", None, [nn.Linear(2, 3)]], ids=range(3))
def test_what_is_no_network_is_named(net):
    x, y = torch.zeros(4, 2), torch.zeros(4).long()
    for act in (bg.train, lambda *given: bg.fit_map(*given, prior_precision=1.0)):
        with pytest.raises(TypeError, match=f"net must be .* got {type(net).__name__}"):
            act(net, x, y)

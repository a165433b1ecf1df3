import copy
import math

import pytest
import torch
from torch import nn

import bayesgen as bg
from bayesgen.training import checkpoint as checkpoints


@pytest.fixture
def digits():
    return bg.data.load("digits", train=120, test=60, dtype=torch.float32)


def mlp(seed=0, outputs=10):
    torch.manual_seed(seed)
    return bg.networks.MLP(64, (16,), outputs)


def same(a, b):
    for name, value in a.state_dict().items():
        torch.testing.assert_close(value, b.state_dict()[name], rtol=0, atol=0)


@pytest.mark.parametrize(("optimiser", "batch"), [("sgd", 30), ("adam", 30), ("sgd", None)])
def test_training_fits(digits, optimiser, batch):
    run = bg.train(
        mlp(), digits.x_train, digits.y_train, epochs=40, batch=batch, optimiser=optimiser,
        learning_rate={"sgd": 0.2, "adam": 0.01}[optimiser],
    )  # fmt: skip
    assert run.history.error.iloc[-1] < 0.1
    assert run.history.loss.iloc[-1] < run.history.loss.iloc[0]
    assert not run.net.training


def test_weight_decay_is_the_prior(digits):
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


def test_same_seed_same_weights(digits):
    runs = [bg.train(mlp(), digits.x_train, digits.y_train, epochs=3).net for _ in range(2)]
    same(*runs)
    other = bg.train(mlp(), digits.x_train, digits.y_train, epochs=3, seed=1).net
    assert not torch.equal(runs[0][1].weight, other[1].weight)


def killed_after(epochs, batches):
    """A progress function that stops a run as a kill would."""

    def stop(done, expected, said):
        if done > epochs * batches + 1:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize("evidence", [False, True])
def test_resume_after_a_kill_ends_where_an_unbroken_run_does(digits, tmp_path, evidence):
    settings = {"epochs": 6, "batch": 40, "prior_precision": 0.5}
    if evidence:
        settings |= {"evidence_every": 2, "keep": "best"}
    whole = bg.train(mlp(), digits.x_train, digits.y_train, **settings)
    path = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        bg.train(
            mlp(), digits.x_train, digits.y_train, checkpoint=path, progress=killed_after(3, 3),
            **settings,
        )  # fmt: skip
    resumed = bg.train(mlp(5), digits.x_train, digits.y_train, checkpoint=path, **settings)
    same(whole.net, resumed.net)
    assert whole.history.equals(resumed.history)
    torch.testing.assert_close(whole.prior_precision, resumed.prior_precision)
    if evidence:
        assert resumed.evidence.fit == whole.evidence.fit


def test_a_checkpoint_of_another_run_or_cut_in_half_is_not_used(digits, tmp_path):
    path = tmp_path / "run.pt"
    bg.train(mlp(), digits.x_train, digits.y_train, epochs=2, checkpoint=path)
    with pytest.raises(ValueError, match="checkpoint"):
        bg.train(mlp(), digits.x_train, digits.y_train.flip(0), epochs=2, checkpoint=path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="checkpoint"):
        bg.train(mlp(), digits.x_train, digits.y_train, epochs=2, checkpoint=path)


def test_no_code_is_run_from_a_checkpoint(tmp_path):
    path = tmp_path / "bad.pt"
    torch.save({"fingerprint": "x", "net": nn.Linear(1, 1)}, path)
    with pytest.raises(ValueError, match="checkpoint"):
        checkpoints.load(path, "x", torch.device("cpu"))


def test_nan_stops_with_the_step_and_keeps_the_last_good_epoch(digits, tmp_path):
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


def test_online_evidence_raises_the_evidence(digits):
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


def test_online_evidence_learns_a_noise():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(200, 3, generator=g, dtype=torch.float64)
    y = x @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    y = y + 0.3 * torch.randn(200, generator=g, dtype=torch.float64)
    net = nn.Linear(3, 1).double()
    run = bg.train(net, x, y, "gaussian", epochs=60, learning_rate=0.05, evidence_every=5)
    assert float(run.noise) == pytest.approx(0.09, rel=0.2)


def test_an_ensemble_is_its_members_alone(digits):
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


def test_an_ensemble_keeps_each_members_batch_statistics():
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


def test_an_ensemble_says_whose_loss_is_not_finite(digits):
    nets = [mlp(0), mlp(1)]
    with torch.no_grad():
        nets[1][1].weight.fill_(math.inf)
    with pytest.raises((bg.DivergedError, ValueError), match=r"\[1\]|not finite"):
        bg.train_ensemble(nets, digits.x_train, digits.y_train.expand(2, -1), epochs=1)


def test_bf16_is_only_where_asked(digits):
    run = bg.train(mlp(), digits.x_train, digits.y_train, epochs=2, arithmetic="bf16")
    plain = bg.train(mlp(), digits.x_train, digits.y_train, epochs=2)
    assert run.net[1].weight.dtype == torch.float32
    assert not torch.equal(run.net[1].weight, plain.net[1].weight)


@pytest.mark.cuda
def test_an_ensemble_on_the_device(digits):
    device = torch.device("cuda")
    nets = [mlp(s).to(device) for s in range(4)]
    x, y = digits.x_train.to(device), digits.y_train.to(device)
    losses = bg.train_ensemble(nets, x, y.expand(4, -1), epochs=20)
    assert losses.iloc[-1].max() < losses.iloc[0].min()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"net": nn.Flatten()}, ValueError, "trainable parameters"),
        ({"net": "net"}, TypeError, "torch.nn.Module"),
        ({"epochs": 0}, ValueError, "epochs must be"),
        ({"optimiser": "lbfgs"}, ValueError, "optimiser must be one of"),
        ({"schedule": "step"}, ValueError, "schedule must be one of"),
        ({"arithmetic": "fp8"}, ValueError, "arithmetic must be one of"),
        ({"prior_precision": -1.0}, ValueError, "prior_precision must be"),
        ({"prior_precision": [1.0, 2.0, 3.0]}, ValueError, "one a layer"),
        ({"keep": "best"}, ValueError, "evidence_every"),
        ({"y": torch.full((120,), 10)}, ValueError, "labels|y must"),
        ({"net": bg.networks.MLP(64, (4,), 1)}, ValueError, "at least 2"),
    ],
)
def test_bad_input_is_named(digits, change, error, message):
    given = {"net": mlp(), "x": digits.x_train, "y": digits.y_train, "epochs": 1} | change
    with pytest.raises(error, match=message):
        bg.train(given.pop("net"), given.pop("x"), given.pop("y"), **given)


def test_a_bar_shows_loss_evidence_and_time_left(digits, capfd):
    net = bg.networks.MLP(64, (8,), 10)
    bg.train(net, digits.x_train, digits.y_train, epochs=2, evidence_every=1, progress=True)
    shown = capfd.readouterr().err
    assert "loss" in shown
    assert "left" in shown
    bg.train_ensemble([net], digits.x_train, digits.y_train[None], epochs=1, progress=True)
    assert "mean loss" in capfd.readouterr().err


# ---------------------------------------------------------------- to a mode


def test_a_climb_ends_at_the_mode_of_a_linear_model():
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(60, k, generator=g, dtype=torch.float64) for k in (4, 2))
    net = torch.nn.Linear(4, 2, bias=False).double()
    found = bg.fit_map(net, x, y, "gaussian", prior_precision=3.0, noise=0.5, tolerance=1e-14)
    exact = torch.linalg.solve(x.mT @ x / 0.5 + 3.0 * torch.eye(4).double(), x.mT @ y / 0.5).mT
    torch.testing.assert_close(net.weight.detach(), exact, rtol=1e-5, atol=1e-6)
    density = torch.distributions.Normal(net(x).detach(), 0.5**0.5).log_prob(y).sum()
    value = float(density - 1.5 * exact.square().sum())
    assert found.log_posterior == pytest.approx(value, rel=1e-9)
    assert found.converged
    assert found.gained > 0


def test_a_climb_to_a_mode_about_a_prior_mean_and_its_evidence():
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(60, k, generator=g, dtype=torch.float64) for k in (4, 2))
    net, first = (torch.nn.Linear(4, 2, bias=False).double() for _ in range(2))
    settings = {"prior_precision": 3.0, "noise": 0.5, "prior_mean": first}
    found = bg.fit_map(net, x, y, "gaussian", tolerance=1e-14, **settings)
    start = first.weight.detach()
    A = x.mT @ x / 0.5 + 3.0 * torch.eye(4).double()
    exact = torch.linalg.solve(A, x.mT @ y / 0.5 + 3.0 * start.mT).mT
    torch.testing.assert_close(net.weight.detach(), exact, rtol=1e-5, atol=1e-6)
    density = torch.distributions.Normal(net(x).detach(), 0.5**0.5).log_prob(y).sum()
    value = float(density - 1.5 * (exact - start).square().sum())
    assert found.log_posterior == pytest.approx(value, rel=1e-9)
    rest = y - x @ start.mT
    model = bg.LinearModel(prior_variance=1 / 3, noise=0.5, hyperparameters="fixed").fit(x, rest)
    wanted = model.evidence.log_marginal_likelihood
    for curvature in ("ggn", "hessian", "last_layer", "kron"):
        own = bg.Laplace(
            net, "gaussian", curvature=curvature, hyperparameters="fixed", **settings
        ).fit(x, y)
        close = {"rtol": 1e-8, "atol": 0} if curvature != "kron" else {"rtol": 0.1, "atol": 0}
        torch.testing.assert_close(own.evidence.log_marginal_likelihood, wanted, **close)


def test_a_climb_takes_a_precision_for_each_layer_and_makes_laplace_content():
    data = bg.data.load("digits", train=120, dtype=torch.float32)
    torch.manual_seed(0)
    net = bg.networks.MLP(64, (12,), 10)
    bg.train(net, data.x_train, data.y_train, epochs=30, optimiser="adam")
    alpha = torch.tensor([1.0, 2.0])
    with pytest.warns(bg.NotAtModeWarning):
        bg.Laplace(net, prior_precision=alpha, hyperparameters="fixed").fit(
            data.x_train, data.y_train
        )
    seen = []
    found = bg.fit_map(
        net, data.x_train, data.y_train, prior_precision=alpha, steps=400, tolerance=1e-9,
        batch=50, progress=lambda *a: seen.append(a),
    )  # fmt: skip
    assert len(seen) <= found.evaluations
    assert "gradient" in seen[-1][2]
    posterior = bg.Laplace(net, prior_precision=alpha, hyperparameters="fixed").fit(
        data.x_train, data.y_train
    )  # a NotAtModeWarning would be an error
    assert posterior.gain < 1
    assert posterior.gradient_norm == pytest.approx(found.gradient_norm, rel=0.05, abs=0.05)


def test_a_climb_ends_at_a_height():
    data = bg.data.load("digits", train=120, dtype=torch.float64)
    torch.manual_seed(0)
    net = bg.networks.MLP(64, (12,), 10).double()
    settings = {"prior_precision": 1.0, "steps": 400}
    first = bg.fit_map(net, data.x_train, data.y_train, height=-200.0, **settings)
    assert -200 <= first.log_posterior < -199.9
    assert not first.converged
    scores = net(data.x_train).detach()
    density = -torch.nn.functional.cross_entropy(scores, data.y_train, reduction="sum")
    value = float(density) - 0.5 * sum(float(p.detach().square().sum()) for p in net.parameters())
    assert value == pytest.approx(first.log_posterior, rel=1e-9)
    there = bg.fit_map(net, data.x_train, data.y_train, height=-200.0, **settings)
    assert (there.log_posterior, there.gained) == (pytest.approx(value, rel=1e-9), 0)
    assert there.evaluations == 1
    far = settings | {"steps": 3000}
    assert bg.fit_map(net, data.x_train, data.y_train, height=1e9, **far).converged


def test_networks_climb_to_one_training_loss():
    data = bg.data.load("digits", train=120, dtype=torch.float64)
    losses = []
    for seed in range(2):
        torch.manual_seed(seed)
        net = bg.networks.MLP(64, (12,), 10).double()
        bg.train(net, data.x_train, data.y_train, epochs=20, optimiser="adam", learning_rate=1e-2)
        bg.fit_map(net, data.x_train, data.y_train, prior_precision=0.0, height=-0.02 * 120)
        with torch.no_grad():
            loss = torch.nn.functional.cross_entropy(net(data.x_train), data.y_train)
        losses.append(float(loss))
    assert losses == pytest.approx([0.02, 0.02], rel=1e-3)


def test_a_climb_refuses_what_it_cannot_use():
    x, y = torch.randn(10, 3), torch.arange(10) % 2
    net = torch.nn.Linear(3, 2)
    with pytest.raises(ValueError, match="prior_precision must be"):
        bg.fit_map(net, x, y, prior_precision=torch.ones(3))
    with pytest.raises(ValueError, match="steps must be"):
        bg.fit_map(net, x, y, prior_precision=1.0, steps=0)
    with pytest.raises(ValueError, match="height must be"):
        bg.fit_map(net, x, y, prior_precision=1.0, height=math.nan)
    with torch.no_grad():
        net.weight[0, 0] = math.inf
    with pytest.raises(bg.DivergedError, match="not finite"):
        bg.fit_map(net, x, y, prior_precision=1.0)

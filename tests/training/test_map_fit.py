"""Tests of `bayesgen.training.map_fit`."""

import math

import pytest
import torch

import bayesgen as bg


def test_mode_of_linear_model_is_found():
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


def test_mode_about_prior_mean_and_its_evidence_match_linear_model():
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


def test_layer_precisions_are_accepted_and_mode_satisfies_laplace():
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
    )  # A NotAtModeWarning would be an error here.
    assert posterior.gain < 1
    assert posterior.gradient_norm == pytest.approx(found.gradient_norm, rel=0.05, abs=0.05)


def test_search_ends_at_stated_height():
    data = bg.data.load("digits", train=120, dtype=torch.float64)
    torch.manual_seed(0)
    net = bg.networks.MLP(64, (12,), 10).double()
    settings = {"prior_precision": 1.0, "steps": 400}
    first = bg.fit_map(net, data.x_train, data.y_train, height=-200.0, **settings)
    assert -200 <= first.log_posterior < -199.9
    assert not first.converged
    assert first.reached
    scores = net(data.x_train).detach()
    density = -torch.nn.functional.cross_entropy(scores, data.y_train, reduction="sum")
    value = float(density) - 0.5 * sum(float(p.detach().square().sum()) for p in net.parameters())
    assert value == pytest.approx(first.log_posterior, rel=1e-9)
    there = bg.fit_map(net, data.x_train, data.y_train, height=-200.0, **settings)
    assert (there.log_posterior, there.gained) == (pytest.approx(value, rel=1e-9), 0)
    assert there.evaluations == 1
    below = bg.fit_map(net, data.x_train, data.y_train, height=-300, **settings)
    assert (below.gained, below.reached) == (0, False)
    far = bg.fit_map(net, data.x_train, data.y_train, height=1e9, **settings | {"steps": 3000})
    assert (far.converged, far.reached) == (True, False)
    assert bg.fit_map(net, data.x_train, data.y_train, **settings).reached is None
    for height, error in (("a", TypeError), (float("nan"), ValueError)):
        with pytest.raises(error, match="height must be"):
            bg.fit_map(net, data.x_train, data.y_train, height=height, **settings)


def test_networks_reach_one_training_loss():
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


def test_invalid_arguments_raise():
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
    with pytest.raises(ValueError, match="'weight' holds NaN"):
        bg.fit_map(net, x, y, prior_precision=1.0)

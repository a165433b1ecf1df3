"""Tests of `bayesgen.models.network.linearised`.

The evidence of a network's linearisation is compared with explicit weight space.
"""

import math
import warnings

import pytest
import scipy.optimize
import torch
from torch import nn
from torch.func import functional_call, jacrev

import bayesgen as bg


def small(outputs=3, n=12, hidden=(5,), seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=g, dtype=torch.float64)
    y = torch.randint(outputs, (n,), generator=g)
    torch.manual_seed(seed)
    return bg.networks.MLP(4, hidden, outputs).double(), x, y


def jacobian(net, x):
    """J as (n, C, P), in the order of `named_parameters`."""
    parameters = {k: p.detach() for k, p in net.named_parameters()}
    found = jacrev(lambda p: functional_call(net, p, (x,)))(parameters)
    return torch.cat([j.flatten(2) for j in found.values()], -1)


def weight_space(net, x, y, alpha, offset, start=0.0):
    """log Z, mode and covariance of the linear model, by brute force over its weights − start."""
    J = jacobian(net, x)
    theta = torch.cat([p.detach().flatten() for p in net.parameters()])
    f0 = (
        net(x).detach() - J @ (theta - start)
        if offset
        else torch.zeros(J.shape[:2], dtype=torch.float64)
    )

    def negative(w):
        f = f0 + J @ w
        return -(f.gather(1, y[:, None]).sum() - f.logsumexp(1).sum() - 0.5 * (alpha * w * w).sum())

    def both(w):
        w = torch.from_numpy(w).requires_grad_()
        value = negative(w)
        return float(value.detach()), torch.autograd.grad(value, w)[0].numpy()

    found = scipy.optimize.minimize(
        both, theta.numpy() * 0, jac=True, method="L-BFGS-B",
        options={"maxiter": 5000, "maxfun": 10000, "ftol": 1e-16, "gtol": 1e-10},
    )  # fmt: skip
    w = torch.from_numpy(found.x)
    p = (f0 + J @ w).softmax(1)
    H = sum(j.mT @ (torch.diag(q) - torch.outer(q, q)) @ j for j, q in zip(J, p, strict=True))
    scaled = H / (alpha**0.5 * torch.ones(len(w), dtype=torch.float64))
    scaled = scaled.mT / (alpha**0.5 * torch.ones(len(w), dtype=torch.float64))
    logdet = torch.linalg.slogdet(torch.eye(len(w), dtype=torch.float64) + scaled)[1]
    full = H + torch.diag(alpha * torch.ones(len(w), dtype=torch.float64))
    return -float(negative(w)) - 0.5 * float(logdet), f0 + J @ w, torch.linalg.inv(full)


@pytest.mark.parametrize("mode", ["linearised", "tangent"])
@pytest.mark.parametrize("alpha", [0.1, 3.0])
def test_evidence_matches_linear_model_in_weight_space(mode, alpha):
    net, x, y = small()
    posterior = bg.Laplace(net, prior_precision=alpha, hyperparameters="fixed", mode=mode).fit(x, y)
    value, f, covariance = weight_space(net, x, y, torch.tensor(alpha), mode == "linearised")
    assert float(posterior.evidence.log_marginal_likelihood) == pytest.approx(value, rel=1e-8)
    assert posterior.evidence.n == len(x)
    assert posterior.evidence.complexity_excludes == ("linearisation",)
    ours = posterior.mean(x)
    torch.testing.assert_close(
        ours - ours.mean(1, keepdim=True), f - f.mean(1, keepdim=True), rtol=1e-5, atol=1e-6
    )
    new = x[:3] + 0.1
    J = jacobian(net, new)
    latent = posterior.predict(new, latent=True)
    wanted = torch.einsum("ncp,pq,ncq->nc", J, covariance, J)
    torch.testing.assert_close(latent.variance, wanted, rtol=1e-5, atol=1e-8)


def test_prior_mean_matches_weight_space():
    net, x, y = small()
    first, _, _ = small(seed=3)
    alpha = 2.0
    settings = {"prior_precision": alpha, "hyperparameters": "fixed", "prior_mean": first}
    posterior = bg.Laplace(net, mode="linearised", **settings).fit(x, y)
    start = torch.cat([p.detach().flatten() for p in first.parameters()])
    value, f, _ = weight_space(net, x, y, torch.tensor(alpha), True, start)
    assert float(posterior.evidence.log_marginal_likelihood) == pytest.approx(value, rel=1e-8)
    ours = posterior.mean(x)
    torch.testing.assert_close(
        ours - ours.mean(1, keepdim=True), f - f.mean(1, keepdim=True), rtol=1e-5, atol=1e-6
    )
    with pytest.raises(ValueError, match="prior mean of zero"):
        bg.Laplace(net, mode="tangent", **settings)
    with pytest.raises(ValueError, match="same architecture, with a parameter '1.weight'"):
        bg.Laplace(net, prior_mean=bg.networks.MLP(4, (6,), 3))
    with pytest.raises(ValueError, match="prior_mean is on device meta"):
        bg.fit_map(
            net, x, y, prior_precision=1.0, prior_mean=bg.networks.MLP(4, (5,), 3).to("meta")
        )
    with pytest.raises(TypeError, match="prior_mean"):
        bg.Laplace(net, prior_mean=0.0)


@pytest.mark.parametrize("about", ["zero", "another network"])
def test_evidence_at_own_mode_equals_laplace(about):
    _, x, y = small(n=30)
    net, first = (
        nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double() for _ in range(2)
    )
    prior = {"prior_precision": 3.0, "prior_mean": first if about != "zero" else None}
    bg.fit_map(net, x, y, tolerance=1e-16, steps=3000, **prior)
    linear = bg.Laplace(net, mode="linearised", hyperparameters="fixed", **prior).fit(x, y)
    own = bg.Laplace(net, hyperparameters="fixed", **prior).fit(x, y)
    assert own.gain < 1e-8
    torch.testing.assert_close(own.theta, linear.theta, rtol=0, atol=1e-4)
    torch.testing.assert_close(
        own.evidence.log_marginal_likelihood,
        linear.evidence.log_marginal_likelihood,
        rtol=1e-6,
        atol=0,
    )


def test_precision_of_each_parameter_is_accepted():
    net, x, y = small()
    P = sum(p.numel() for p in net.parameters())
    alpha = torch.linspace(0.2, 4, P, dtype=torch.float64)
    own = bg.Laplace(net, prior_precision=alpha, hyperparameters="fixed", mode="tangent").fit(x, y)
    value, _, _ = weight_space(net, x, y, alpha, False)
    assert float(own.evidence.log_marginal_likelihood) == pytest.approx(value, rel=1e-8)
    learnt = bg.Laplace(net, prior_precision=alpha, mode="tangent").fit(x, y)
    ratio = learnt.prior_precision / alpha
    torch.testing.assert_close(ratio, ratio[0].expand(P))
    assert learnt.evidence.log_marginal_likelihood >= own.evidence.log_marginal_likelihood


@pytest.mark.parametrize("mode", ["linearised", "tangent"])
def test_learnt_precision_maximises_evidence(mode):
    net, x, _ = small(n=30)
    y = x[:, :3].argmax(1)
    best = bg.Laplace(net, mode=mode, prior_precision=20.0).fit(x, y)
    top = float(best.evidence.log_marginal_likelihood)
    for factor in (0.9, 1.1):
        other = bg.Laplace(
            net, mode=mode, prior_precision=float(best.prior_precision) * factor,
            hyperparameters="fixed",
        ).fit(x, y)  # fmt: skip
        assert float(other.evidence.log_marginal_likelihood) < top
    assert not best.at_bound.any()


def test_tangent_kernel_is_no_worse_than_guessing():
    net, x, _ = small(n=40)
    y = torch.randint(3, (40,), generator=torch.Generator().manual_seed(5))
    posterior = bg.Laplace(net, mode="tangent").fit(x, y)
    assert float(posterior.evidence.per_observation) > -math.log(3) - 1e-3


def test_search_ends_at_bound_when_guessing_is_best():
    net, x, y = small(n=30)
    posterior = bg.Laplace(net, mode="linearised").fit(x, y)
    assert posterior.at_bound.all()
    assert float(posterior.evidence.effective_dimension) < 1e-3


def test_linear_network_of_real_targets_equals_linear_model():
    g = torch.Generator().manual_seed(1)
    x = torch.randn(20, 4, generator=g, dtype=torch.float64)
    y = x @ torch.ones(4, dtype=torch.float64) + 0.1 * torch.randn(20, generator=g).double()
    net = nn.Linear(4, 1, bias=False).double()
    exact = bg.LinearModel(None, prior_variance=0.5, noise=0.04, hyperparameters="fixed").fit(x, y)
    for mode in ("linearised", "tangent"):
        posterior = bg.Laplace(
            net, "gaussian", prior_precision=2.0, noise=0.04, hyperparameters="fixed", mode=mode
        ).fit(x, y)
        for name in ("log_marginal_likelihood", "fit", "complexity", "effective_dimension"):
            ours, theirs = getattr(posterior.evidence, name), getattr(exact.evidence, name)
            torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)
        latent = posterior.predict(x[:5], latent=True)
        wanted = exact.predict(x[:5], latent=True)
        torch.testing.assert_close(latent.mean, wanted.mean, rtol=1e-7, atol=1e-8)
        torch.testing.assert_close(latent.variance, wanted.variance, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize(("likelihood", "top"), [("bernoulli", 2), ("poisson", 5)])
def test_linear_network_at_mode_equals_laplace(likelihood, top):
    g = torch.Generator().manual_seed(2)
    x = torch.randn(25, 3, generator=g, dtype=torch.float64)
    y = torch.randint(top, (25,), generator=g)
    net = nn.Linear(3, 1).double()
    bg.train(
        net, x, y, likelihood, epochs=400, batch=None, optimiser="adam", learning_rate=0.05,
        prior_precision=1.0,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = bg.Laplace(net, likelihood, hyperparameters="fixed").fit(x, y)
    tangent = bg.Laplace(net, likelihood, hyperparameters="fixed", mode="tangent").fit(x, y)
    torch.testing.assert_close(
        plain.evidence.log_marginal_likelihood,
        tangent.evidence.log_marginal_likelihood,
        rtol=1e-4,
        atol=1e-4,
    )


def test_latent_samples_follow_marginals():
    net, x, y = small()
    posterior = bg.Laplace(net, mode="tangent", hyperparameters="fixed").fit(x, y)
    draws = posterior.latent_samples(3000, seed=0)
    latent = posterior.predict(x, latent=True)
    torch.testing.assert_close(draws.mean(0), latent.mean, atol=0.12, rtol=0)
    torch.testing.assert_close(draws.var(0), latent.variance, atol=0.05, rtol=0.15)


def test_float32_error_covers_gap():
    net, x, y = small(n=40)
    exact = bg.Laplace(net, mode="tangent").fit(x, y).evidence
    rough = bg.Laplace(net.float(), mode="tangent", dtype=None).fit(x.float(), y).evidence
    gap = float((exact.log_marginal_likelihood - rough.log_marginal_likelihood).abs())
    assert 0 < gap < float(rough.error)
    assert float(exact.error) < 1e-8


def test_invalid_arguments_raise():
    net, x, y = small()
    with pytest.raises(ValueError, match="mode must be"):
        bg.Laplace(net, mode="affine")
    with pytest.raises(ValueError, match='"tangent" needs curvature="ggn", got "kron"'):
        bg.Laplace(net, mode="tangent", curvature="kron")
    with pytest.raises(ValueError, match="prior_precision as a number or a tensor"):
        bg.Laplace(net, mode="tangent", prior_precision="layer")
    with pytest.raises(ValueError, match="needs noise, a variance"):
        bg.Laplace(net, "gaussian", mode="linearised")
    posterior = bg.Laplace(net, mode="tangent").fit(x, y)
    with pytest.raises(ValueError, match="not weights for the network"):
        posterior.predict(x, method="weights")


def test_too_many_rows_raise(monkeypatch):
    net, x, y = small()
    monkeypatch.setattr("bayesgen.models.network.linearised.LARGEST_DUAL", 10)
    with pytest.raises(ValueError, match="up to 10 rows"):
        bg.Laplace(net, mode="tangent").fit(x, y)


def test_evidence_of_untrained_network_falls_with_corruption():
    data = bg.data.load("digits", train=100, dtype=torch.float64)
    torch.manual_seed(0)
    net = bg.networks.MLP(64, (16,), 10).double()
    found = []
    for level in (0.0, 0.3, 0.6, 1.0):
        y, _ = bg.corrupt_labels(data.y_train, level, num_classes=10, seed=0)
        posterior = bg.Laplace(
            net, mode="tangent", prior_precision=0.01, hyperparameters="fixed"
        ).fit(data.x_train, y)
        assert (posterior.mean(data.x_train).argmax(1) == y).all()
        found.append(float(posterior.evidence.log_marginal_likelihood))
    assert found == sorted(found, reverse=True)

"""Tests of `bayesgen.models.network.model`."""

import math

import pytest
import torch
from torch import nn

import bayesgen as bg
from tests.helpers import fit_quietly, fixed_laplace, network_problem

F64 = torch.float64


ALL = ["ggn", "hessian", "kron", "diag", "last_layer"]


def images(n, channels=3, size=8):
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, channels, size, size, generator=g, dtype=F64)


@pytest.mark.parametrize("curvature", ALL)
def test_linear_network_equals_linear_model(curvature):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(30, 4, generator=g, dtype=F64)
    y = x @ torch.tensor([1.0, 0.5, -1.0, 0.2], dtype=F64) + 0.4 * torch.randn(30, generator=g)
    y = y.double()
    if curvature == "diag":  # It is exact where the features are orthogonal.
        x = torch.linalg.qr(x)[0] * 5
    model = bg.LinearModel(prior_variance=0.5, noise=0.3, hyperparameters="fixed").fit(x, y)
    net = nn.Linear(4, 1, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(model.weights[None])
    ours = bg.Laplace(net, "gaussian", 2.0, 0.3, curvature, "fixed").fit(x, y)
    for part in ("log_marginal_likelihood", "fit", "complexity", "effective_dimension"):
        want = getattr(model.evidence, part)
        torch.testing.assert_close(getattr(ours.evidence, part), want, rtol=1e-8, atol=1e-8)
    new = torch.randn(5, 4, generator=g, dtype=F64)
    torch.testing.assert_close(ours.predict(new).mean, model.predict(new).mean)
    torch.testing.assert_close(ours.predict(new).stddev, model.predict(new).stddev)
    assert ours.gain < 1e-10


def test_logistic_network_equals_linear_model():
    _, x, y = network_problem("bernoulli")
    model = bg.LinearModel(prior_variance=1.0, likelihood="bernoulli", hyperparameters="fixed")
    want = model.fit(x, y)
    net = nn.Linear(3, 1, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(want.weights.reshape(1, -1))
    for curvature in ("ggn", "hessian", "last_layer"):
        ours = fixed_laplace(net, "bernoulli", curvature=curvature).fit(x, y)
        torch.testing.assert_close(
            ours.evidence.log_marginal_likelihood,
            want.evidence.log_marginal_likelihood,
            rtol=1e-8,
            atol=1e-6,
        )


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda n, x, y: bg.Laplace(nn.Flatten()), ValueError, "trainable parameters"),
        (lambda n, x, y: bg.Laplace(lambda v: v), TypeError, "torch.nn.Module"),
        (lambda n, x, y: bg.Laplace(n, curvature="full"), ValueError, "curvature must be one of"),
        (lambda n, x, y: bg.Laplace(n, prior_precision=-1.0), ValueError, "prior_precision must"),
        (lambda n, x, y: bg.Laplace(n, noise=1.0), ValueError, "noise must be None"),
        (lambda n, x, y: bg.Laplace(n, "bernoulli").fit(x, y), ValueError, "1 output"),
        (lambda n, x, y: bg.Laplace(n).fit(x, y + 1), ValueError, "0..2|labels"),
        (lambda n, x, y: bg.Laplace(n).fit(x[:-1], y), ValueError, "30|29"),
        (lambda n, x, y: bg.Laplace(n).fit(x * math.nan, y), ValueError, "x must be finite"),
        (lambda n, x, y: bg.Laplace(n).fit(x), TypeError, "loader"),
        (lambda n, x, y: bg.Laplace(n).fit(iter([(x, y)])), TypeError, "more than once"),
        (lambda n, x, y: bg.Laplace(n).fit([]), ValueError, "empty loader"),
        (
            lambda n, x, y: bg.Laplace(n, prior_precision=[1.0, 2.0, 3.0]).fit(x, y),
            ValueError,
            "one a layer",
        ),
        (
            lambda n, x, y: bg.Laplace(n, prior_precision="parameter").fit(x, y),
            ValueError,
            "each parameter",
        ),
        (
            lambda n, x, y: bg.Laplace(nn.Sequential(n, nn.Flatten(0))).fit(x, y),
            ValueError,
            r"scores of shape",
        ),
    ],
)
def test_invalid_arguments_raise(act, error, message):
    net, x, y = network_problem()
    with pytest.raises(error, match=message):
        act(net, x, y)


def test_rescaling_before_batch_norm_changes_evidence_not_function():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 3, 8, 8, generator=g, dtype=F64), torch.randint(2, (20,), generator=g)
    torch.manual_seed(0)
    net = bg.networks.PreResNet20(1, 2).double()
    bg.train(net, x, y, epochs=30, batch=None, learning_rate=0.05)
    before, scores, block = fit_quietly(fixed_laplace(net), x, y), net(x), net.blocks[0]
    with torch.no_grad():  # BatchNorm undoes the change of the convolution.
        block.conv1.weight.mul_(3)
        block.norm2.running_mean.mul_(3)
        block.norm2.running_var.mul_(9).add_(8 * block.norm2.eps)
    after = fit_quietly(fixed_laplace(net), x, y)
    torch.testing.assert_close(net(x), scores, rtol=1e-6, atol=1e-6)
    assert abs(float(before.evidence.per_observation - after.evidence.per_observation)) > 0.05


def test_fit_leaves_network_unchanged():
    net = bg.networks.PreResNet20(1, 2).double().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.warns(bg.NotAtModeWarning):
        bg.Laplace(net, curvature="diag").fit(images(4), torch.tensor([0, 1, 0, 1]))
    assert net.training
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)

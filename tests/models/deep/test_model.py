"""Tests of `bayesgen.models.deep.model`."""

import gpytorch
import pandas as pd
import pytest
import torch
from torch import nn

import bayesgen as bg
from tests.models.deep.problems import mlp, quiet, wave

RBF = gpytorch.kernels.RBFKernel


F64 = torch.float64


def test_zero_steps_equal_gp_on_features():
    x, y = wave()
    net = mlp()
    ours = bg.DeepKernel(net, RBF(), steps=0).fit(x, y)
    want = bg.GaussianProcess(RBF()).fit(net(x).detach(), y)
    assert ours.evidence.log_marginal_likelihood >= want.evidence.log_marginal_likelihood - 1e-3
    assert ours.evidence.complexity_excludes == ()


def test_training_raises_evidence_and_reports_unpaid_features():
    x, y = wave()
    before, after = (bg.DeepKernel(mlp(), RBF(), steps=s, batch=7).fit(x, y) for s in (0, 60))
    assert after.evidence.per_observation > before.evidence.per_observation
    assert "complexity excludes features" in str(after.evidence)
    assert after.history.objective.iloc[-1] > after.history.objective.iloc[0]
    table = bg.compare({"deep": after, "GP": bg.GaussianProcess(RBF()).fit(x, y)})
    assert table.loc["deep", "excludes"] == "features"
    assert not hasattr(after, "certificate")  # Nothing pays for the features.


def test_free_features_overfit_and_weight_prior_pays():
    """Unpaid features have more evidence than a plain GP and predict worse; paid ones have less."""
    x, y = wave()
    new, truth = wave(400, seed=4)
    gp = bg.GaussianProcess(RBF()).fit(x, y)

    def loss(posterior):
        return -float(posterior.predict(new).log_prob(truth).mean())

    torch.manual_seed(0)
    net = bg.networks.MLP(1, (30, 30), 2).double()
    free = bg.DeepKernel(net, RBF(), steps=250, learning_rate=3e-3).fit(x, y)
    assert free.evidence.per_observation > gp.evidence.per_observation + 0.1
    assert loss(free) > loss(gp) + 0.2
    small = mlp(1, hidden=(6,))
    model = bg.DeepKernel(small, RBF(), steps=800, learning_rate=0.02, prior_precision=2.0)
    paid = quiet(model, x, y)
    assert paid.evidence.complexity_excludes == ()
    assert paid.evidence.per_observation < free.evidence.per_observation
    assert float(paid.weights_dimension) > 0


def test_given_noise_is_kept():
    posterior = bg.DeepKernel(mlp(), RBF(), noise=1e-7, steps=2).fit(*wave())
    assert float(posterior.noise) == pytest.approx(1e-7)


def test_float32_networks_have_float64_evidence():
    x, y = wave()
    posterior = bg.DeepKernel(mlp().float(), RBF(), steps=3).fit(x.float(), y)
    assert posterior.evidence.fit.dtype == F64


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: bg.DeepKernel("net", RBF()), TypeError, "torch.nn.Module"),
        (lambda: bg.DeepKernel(nn.Flatten(), RBF()), ValueError, "trainable parameters"),
        (lambda: bg.DeepKernel(mlp(), "rbf"), TypeError, "kernel must be"),
        (lambda: bg.DeepKernel(mlp(), RBF(), objective="loo"), ValueError, "objective must be"),
        (lambda: bg.DeepKernel(mlp(), RBF(), conditioned=1.0), ValueError, "conditioned must"),
        (lambda: bg.DeepKernel(mlp(), RBF(), noise=-1.0), ValueError, "noise must"),
        (lambda: bg.DeepKernel(mlp(), RBF(), steps=-1), ValueError, "steps must"),
        (
            lambda: bg.DeepKernel(mlp(), RBF(), lipschitz=1.0, prior_precision=1.0),
            ValueError,
            "prior_precision must be None",
        ),
        (
            lambda: bg.DeepKernel(mlp(), RBF(), steps=1).fit(wave()[0], wave()[1][None, :, None]),
            ValueError,
            "y must have shape",
        ),
        (lambda: bg.DeepKernel(mlp(), RBF(), steps=1).fit(wave()[0], wave(5)[1]), ValueError, "40"),
    ],
)
def test_invalid_arguments_raise(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_tables_gradients_and_modes_of_autograd_do_not_matter(mode):
    x = torch.linspace(-1, 1, 20, dtype=torch.float64)[:, None]
    y = torch.sin(4 * x[:, 0])
    torch.manual_seed(0)
    net = bg.networks.MLP(1, (4,), 2, activation="tanh").double()
    model = bg.DeepKernel(net, gpytorch.kernels.RBFKernel(), steps=3)
    want = model.fit(x, y).evidence.fit
    table = pd.DataFrame(x.numpy(), index=range(20, 40)), pd.Series(y.numpy(), index=range(20))
    assert torch.equal(model.fit(*table).evidence.fit, want)
    assert torch.equal(model.fit(x.clone().requires_grad_(), y).evidence.fit, want)
    with mode():
        found = model.fit(x.clone(), y.clone())
        found.predict(x[:2])
    assert torch.equal(found.evidence.fit, want)


def test_constraints_without_a_transformation_are_kept():
    x = torch.linspace(-1, 1, 20, dtype=torch.float64)[:, None]
    limits = gpytorch.constraints.Interval(0.2, 0.3, transform=None, initial_value=0.25)
    kernel = gpytorch.kernels.RBFKernel(lengthscale_constraint=limits)
    net = bg.networks.MLP(1, (4,), 2, activation="tanh").double()
    model = bg.DeepKernel(net, kernel, steps=20, head_rate=0.3)
    found = model.fit(x, torch.sin(4 * x[:, 0])).gp.kernels[0].lengthscale.item()
    assert 0.2 <= found <= 0.3 + 1e-6

"""Tests of `bayesgen.models.network.prior_precision`."""

import torch
from torch import nn

import bayesgen as bg
from tests.helpers import fit_quietly, fixed_laplace, network_problem

F64 = torch.float64


def test_learnt_hyperparameters_equal_linear_model():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(40, 4, generator=g, dtype=F64)
    y = (x[:, 0] - 0.5 * x[:, 2]) + 0.3 * torch.randn(40, generator=g, dtype=F64)
    model = bg.LinearModel().fit(x, y)
    net = nn.Linear(4, 1, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(model.weights[None])
    ours = bg.Laplace(net, "gaussian").fit(x, y)
    torch.testing.assert_close(1 / ours.prior_precision, model.scale, rtol=1e-4, atol=0)
    torch.testing.assert_close(ours.noise, model.noise, rtol=1e-4, atol=0)
    torch.testing.assert_close(
        ours.evidence.log_marginal_likelihood, model.evidence.log_marginal_likelihood
    )


def test_layer_precisions_agree_in_both_spaces_and_balance(largest_sizes):
    net, x, y = network_problem()
    primal = fit_quietly(fixed_laplace(net, precision="layer", hyperparameters="evidence"), x, y)
    largest_sizes(20_000, 0)
    dual = fit_quietly(fixed_laplace(net, precision="layer", hyperparameters="evidence"), x, y)
    torch.testing.assert_close(dual.prior_precision, primal.prior_precision, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        dual.evidence.log_marginal_likelihood, primal.evidence.log_marginal_likelihood
    )
    one = fit_quietly(fixed_laplace(net, hyperparameters="evidence"), x, y)
    assert dual.evidence.log_marginal_likelihood >= one.evidence.log_marginal_likelihood
    # MacKay's balance for one precision: N_eff = α‖θ‖².
    theta = one.curvature.weights.theta
    torch.testing.assert_close(
        one.evidence.effective_dimension, one.prior_precision * theta.square().sum()
    )

"""Tests of `bayesgen.curvature.weight_space`."""

import pytest
import torch

import bayesgen as bg
from bayesgen.curvature import factory
from bayesgen.curvature.parameters import Weights
from tests.helpers import fit_quietly, fixed_laplace, network_problem

F64 = torch.float64


@pytest.mark.parametrize("name", ["softmax", "bernoulli", "poisson"])
def test_hessian_equals_ggn_for_linear_outputs(name):
    net, x, y = network_problem(name, hidden=0)
    a, b = (fixed_laplace(net, name, curvature=c).fit(x, y).evidence for c in ("ggn", "hessian"))
    torch.testing.assert_close(a.fit, b.fit, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(a.complexity, b.complexity, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["softmax", "bernoulli", "poisson", "gaussian"])
def test_ggn_and_hessian_match_autograd(name):
    net, x, y = network_problem(name)
    weights = Weights(net, None)
    likelihood = bg.likelihoods.resolve(name) or bg.likelihoods.Gaussian(1.0)
    inner = likelihood.targets(y, weights.outputs(x, 64))[0]

    def f(theta):
        return torch.func.functional_call(weights.net, weights.unpacked(theta), (x,))

    def nll(theta):
        return -likelihood.log_density(inner, f(theta)).sum()

    J = torch.autograd.functional.jacobian(f, weights.theta).flatten(0, 1)
    outer = torch.autograd.functional.hessian(
        lambda v: -likelihood.log_density(inner, v.reshape(len(x), -1)).sum(),
        f(weights.theta).reshape(-1),
    )
    ggn = J.T @ outer @ J
    hessian = torch.autograd.functional.hessian(nll, weights.theta)
    values, vectors = torch.linalg.eigh(hessian)
    lifted = vectors @ torch.diag(values.clamp(min=0)) @ vectors.T
    for curvature, H in (("ggn", ggn), ("hessian", lifted)):
        ours = fit_quietly(fixed_laplace(net, name, curvature=curvature), x, y)
        assert ours.negative_eigenvalues == (values < -1e-8).sum() * (curvature == "hessian")
        want = -nll(weights.theta) - 0.5 * weights.theta.square().sum()
        want = want - 0.5 * torch.linalg.slogdet(torch.eye(len(H), dtype=F64) + H)[1]
        torch.testing.assert_close(
            ours.evidence.log_marginal_likelihood, want.detach(), rtol=1e-8, atol=1e-8
        )
        freedom = torch.linalg.solve(H + torch.eye(len(H), dtype=F64), H).trace()
        torch.testing.assert_close(ours.evidence.effective_dimension, freedom)


def test_root_and_matrix_give_same_evidence(monkeypatch):
    net, x, y = network_problem()
    root = fixed_laplace(net).fit(x, y)
    monkeypatch.setattr(factory, "LARGEST_ROOT", 0)
    matrix = fixed_laplace(net).fit(x, y)
    assert "root" in root.evidence.method
    assert "matrix" in matrix.evidence.method
    torch.testing.assert_close(root.evidence.fit, matrix.evidence.fit)
    torch.testing.assert_close(root.evidence.complexity, matrix.evidence.complexity)
    assert matrix.negative_eigenvalues == 0

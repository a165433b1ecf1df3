"""Tests of `bayesgen.models.deep.weight_prior`."""

import gpytorch
import pytest
import torch

import bayesgen as bg
from bayesgen.curvature.matrix_free import matrix
from bayesgen.curvature.parameters import Weights
from bayesgen.models.deep import weight_prior
from bayesgen.models.deep.weight_prior import Fisher
from tests.models.deep.problems import head, mlp, quiet, wave

RBF = gpytorch.kernels.RBFKernel


@pytest.mark.parametrize("kernel", [RBF, lambda: gpytorch.kernels.MaternKernel(nu=2.5)])
def test_fisher_information_matches_definition(kernel):
    x, _ = wave(10)
    net, own = mlp(hidden=(3,)), head(kernel()).requires_grad_(False)
    weights = Weights(net, None)
    ours = matrix(Fisher(weights, own, x, 3, batch=4))

    def A(theta):
        phi = torch.func.functional_call(net, weights.unpacked(theta), (x,))
        return own.covariance(phi)

    J = torch.autograd.functional.jacobian(A, weights.theta.clone().requires_grad_())
    B = torch.einsum("ij,jkp->ikp", torch.linalg.inv(A(weights.theta)), J)
    torch.testing.assert_close(ours, 1.5 * torch.einsum("ijp,jiq->pq", B, B))


def test_lanczos_complexity_matches_whole_matrix(monkeypatch):
    x, y = wave(25)
    model = bg.DeepKernel(
        mlp(hidden=(8,)), RBF(), steps=20, prior_precision=3.0, probes=40, lanczos_steps=30
    )
    exact = quiet(model, x, y)
    monkeypatch.setattr(weight_prior, "LARGEST", 5)
    ours = quiet(model, x, y)
    gap = ours.evidence.log_marginal_likelihood - exact.evidence.log_marginal_likelihood
    assert abs(float(gap)) < 4 * float(ours.evidence.error)
    assert "Lanczos" in ours.evidence.method

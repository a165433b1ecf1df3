"""Tests of `bayesgen.curvature.block_diagonal`."""

import pytest
import torch
from torch import nn

import bayesgen as bg
from bayesgen.curvature import block_diagonal, matrix_free
from bayesgen.curvature.block_diagonal import kronecker
from bayesgen.curvature.curvature import PriorShape
from bayesgen.curvature.jacobian import Sample, jacobians
from bayesgen.curvature.parameters import Weights
from tests.helpers import network_problem

F64 = torch.float64


def test_kronecker_factors_match_curvlinops():
    from curvlinops import KFACLinearOperator

    net, x, y = network_problem("gaussian")
    weights = Weights(net, None)
    values, vectors = torch.ones(30, 1, dtype=F64), torch.ones(30, 1, 1, dtype=F64)
    ours = kronecker(weights, Sample(x, values, vectors, 16, 1e9))
    dense = torch.zeros(weights.count, weights.count, dtype=F64)
    for block in ours:
        basis = block.back(torch.eye(len(block.values), dtype=F64))
        dense[block.columns, block.columns] = basis.T @ torch.diag(block.values) @ basis
    peer_net = weights.net.requires_grad_(True)
    peer = KFACLinearOperator(
        peer_net, nn.MSELoss(reduction="sum"), list(peer_net.parameters()),
        [(x, y[:, None])], fisher_type="type-2", separate_weight_and_bias=True,
    )  # fmt: skip
    want = matrix_free.matrix(peer)
    torch.testing.assert_close(2 * dense, want, rtol=1e-6, atol=1e-6)


@pytest.fixture
def sampled():
    """Weights of a network, a sample, and the dense GGN of it."""
    torch.manual_seed(0)
    weights = Weights(bg.networks.MLP(3, (4,), 2, activation="tanh").double(), None)
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    eye = torch.eye(2, dtype=F64).expand(7, 2, 2)
    sample = Sample(x, torch.full((7, 2), 0.25, dtype=F64), eye, 3, 1e9)
    J = torch.cat(list(jacobians(weights, x, 2, 4))).flatten(0, 1)
    return weights, sample, 0.25 * J.mT @ J


def test_diagonal_blocks_are_the_diagonal_of_the_ggn(sampled):
    weights, sample, H = sampled
    made = block_diagonal.diagonal(weights, sample)
    found = torch.zeros(weights.count, dtype=F64)
    for block in made:
        found[block.columns] = block.values.to(found)
    torch.testing.assert_close(found, H.diagonal())


@pytest.mark.parametrize("kind", ["kronecker", "diagonal"])
def test_blocks_rotate_back_and_multiply_by_their_matrix(sampled, kind):
    weights, sample, _ = sampled
    g = torch.Generator().manual_seed(1)
    for block in getattr(block_diagonal, kind)(weights, sample):
        p = len(block.values)
        rows = torch.randn(3, p, generator=g, dtype=F64)
        torch.testing.assert_close(block.back(block.rotate(rows)), rows)
        want = block.back(block.values * block.rotate(rows[0]))
        torch.testing.assert_close(block.product(rows[0]), want)


def test_terms_covariance_and_gain_match_the_blocks(sampled):
    weights, sample, H = sampled
    made = block_diagonal.diagonal(weights, sample)
    P = weights.count
    prior = PriorShape(torch.ones(P, dtype=F64), torch.zeros(P).long(), 1)
    found = block_diagonal.BlockDiagonal(weights, prior, made, "diag", outputs=2, batch=3)
    alpha = torch.tensor([1.5], dtype=F64)
    h = H.diagonal()
    terms = found.terms(alpha)
    torch.testing.assert_close(terms.logdet, (1 + h / 1.5).log().sum())
    torch.testing.assert_close(terms.effective_parameters.sum(), (h / (h + 1.5)).sum())
    J = next(iter(jacobians(weights, sample.x[:2], 2, 4)))
    want = (J / (h + 1.5)) @ J.mT
    torch.testing.assert_close(found.covariance(sample.x[:2], alpha), want)
    g = torch.linspace(-1, 1, P, dtype=F64)
    assert found.gain(g, alpha) == pytest.approx(float(0.5 * (g * g / (h + 1.5)).sum()))

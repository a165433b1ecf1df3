"""Tests of `bayesgen.curvature.block_diagonal`."""

import torch
from torch import nn

from bayesgen.curvature import matrix_free
from bayesgen.curvature.block_diagonal import kronecker
from bayesgen.curvature.jacobian import Sample
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

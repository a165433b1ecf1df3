"""Tests of `bayesgen.curvature.jacobian_gram`."""

import pytest
import torch
from torch import nn

from bayesgen.curvature.curvature import PriorShape
from bayesgen.curvature.jacobian import Sample, jacobians
from bayesgen.curvature.jacobian_gram import add_gram, grams, mirror
from bayesgen.curvature.parameters import Weights

F64 = torch.float64


def test_mirrored_blocks_are_the_gram_matrix():
    L = torch.randn(1300, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    K = torch.zeros(1300, 1300, dtype=F64)
    add_gram(K, L)
    torch.testing.assert_close(mirror(K), L @ L.mT)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("n", [3, 12])
def test_grams_sum_to_weighted_jacobian_products(groups, n):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    weights = Weights(net, None)
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(1), dtype=F64)
    eye = torch.eye(2, dtype=F64).expand(n, 2, 2)
    sample = Sample(x, torch.full((n, 2), 0.25, dtype=F64), eye, 5, 1e9)
    base = torch.linspace(0.5, 2.0, weights.count, dtype=F64)
    group = (torch.arange(weights.count) >= 30).long() * (groups - 1)
    made = grams(weights, sample, PriorShape(base, group, groups))
    J = 0.5 * torch.cat(list(jacobians(weights, x, 2, 5))).flatten(0, 1)
    assert len(made) == groups
    for g, one in enumerate(made):
        columns = J[:, group == g] / base[group == g].sqrt()
        # A narrow group is handed out as rows, whose products are its Gram matrix.
        K = one if one.shape[0] == one.shape[1] else one @ one.mT
        torch.testing.assert_close(K, columns @ columns.mT)

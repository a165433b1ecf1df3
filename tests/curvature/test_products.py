"""Tests of `bayesgen.curvature.products`."""

import pytest
import torch

from bayesgen.curvature.matrix_free import matrix
from bayesgen.curvature.parameters import Weights
from bayesgen.curvature.products import PRODUCTS
from bayesgen.likelihoods.likelihood import resolve
from tests.models.network.networks import brute_force, categorical_curvature, make
from tests.models.network.test_networks_of_users import exact_hessian


def operator(kind, net, x, y):
    likelihood = resolve("categorical").for_outputs(3, y.shape)
    weights = Weights(net, None)
    inner = likelihood.targets(y, weights.outputs(x, 12))[0]
    return PRODUCTS[kind](weights, likelihood, [(x[:5], inner[:5]), (x[5:], inner[5:])])


@pytest.mark.parametrize("name", ["tied", "TransformerEncoderLayer", "LayerNorm"])
def test_ggn_products_are_those_of_brute_force(name):
    net, x, y = make(name)
    f, _, J = brute_force(net, x, y)
    want = torch.einsum("ncp,nce,neq->pq", J, categorical_curvature(f), J)
    torch.testing.assert_close(matrix(operator("ggn", net, x, y)), want)


@pytest.mark.parametrize("name", ["tied", "LayerNorm"])
def test_hessian_products_are_those_of_brute_force(name):
    net, x, y = make(name)
    op = operator("hessian", net, x, y)
    want = exact_hessian(net.eval(), x, y)[1]
    torch.testing.assert_close(matrix(op), want)
    v = torch.randn(len(want), dtype=want.dtype)
    torch.testing.assert_close(op @ v, want @ v)

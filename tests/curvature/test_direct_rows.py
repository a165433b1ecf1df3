"""Tests of `bayesgen.curvature.direct_rows`."""

import torch

from bayesgen.curvature.direct_rows import alone, direct_rows
from bayesgen.curvature.jacobian_rows import Part
from bayesgen.curvature.parameters import Weights
from tests.models.network.networks import brute_force, make


def test_rows_and_outputs_are_those_of_plain_autograd():
    net, x, y = make("tied")
    f, _, J = brute_force(net, x, y)
    weights = Weights(net, None)
    vectors = torch.randn(12, 3, 2, dtype=f.dtype)
    outputs, rows = alone(weights, x, vectors)
    torch.testing.assert_close(outputs, f)
    torch.testing.assert_close(rows, torch.einsum("ncp,nck->nkp", J, vectors))


def test_parts_have_their_own_columns():
    net, x, _ = make("SiLU")
    weights = Weights(net, None)
    vectors = torch.randn(12, 3, 2, dtype=torch.float64)
    whole = alone(weights, x, vectors)[1]
    parts = [piece for leaf in weights.leaves for piece in Part(leaf).split(10)]
    assert any(part.channels is not None for part in parts)
    for part, found in zip(parts, direct_rows(weights, x, vectors, parts), strict=True):
        torch.testing.assert_close(found, whole[..., part.index()])

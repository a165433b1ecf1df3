"""Tests of `bayesgen.curvature.row_paths`."""

import pytest
import torch
from torch import nn

from bayesgen.curvature.jacobian_rows import Part
from bayesgen.curvature.parameters import Weights
from bayesgen.curvature.row_paths import admit, rows
from tests.models.network.networks import brute_force, make


def admitted(name):
    net, x, y = make(name)
    weights = Weights(net, None)
    f = weights.outputs(x, 12)
    checks = admit(weights, x, f)
    assert all(check.passed for check in checks)
    return weights, net, x, y


@pytest.mark.parametrize(
    ("name", "direct"),
    [
        ("SiLU", set()),
        ("BatchNorm", set()),
        ("module used twice", set()),
        ("tied", {"a"}),
        ("ParameterDict", {"p"}),
        ("functional use", {"a"}),
        ("unused layer", set()),
        ("time first", {"a", "c"}),
        ("spectral_norm hook", {"0"}),
    ],
)
def test_layers_whose_rows_differ_are_found(name, direct):
    assert admitted(name)[0].direct == direct


@pytest.mark.parametrize("name", ["SiLU", "tied", "TransformerEncoderLayer"])
def test_rows_are_those_of_plain_autograd(name):
    weights, net, x, y = admitted(name)
    J = brute_force(net, x, y)[2]
    vectors = torch.randn(12, 3, 2, dtype=torch.float64)
    want = torch.einsum("ncp,nck->nkp", J, vectors)
    for part, found in rows(weights, x, vectors, [Part(leaf) for leaf in weights.leaves]):
        torch.testing.assert_close(found, want[..., part.index()])


def test_a_batch_that_runs_otherwise_has_direct_rows():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 3)

        def forward(self, x):
            if len(x) > 4:
                return x @ self.a.weight.T + self.a.bias
            return self.a(x) if len(x) > 2 else self.a(x[None])[0]

    weights = Weights(Last().double(), None)
    x = torch.randn(6, 4, dtype=torch.float64)
    admit(weights, x[:4], weights.outputs(x[:4], 4))
    assert not weights.direct
    vectors = torch.ones(2, 3, 1, dtype=torch.float64)
    ((_, found),) = rows(weights, x[:2], vectors, [Part(weights.leaves[0])])
    torch.testing.assert_close(found[0, 0, :4], x[0])


def test_a_kink_in_float32_does_not_force_direct_rows():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(50, 200), nn.ReLU(), nn.Linear(200, 3))
    with torch.no_grad():
        net[0].bias.zero_()
        net[0].weight[:, 1:] = 0
    weights = Weights(net, torch.float32)
    x = torch.randn(8, 50) * 1e-7
    admit(weights, x, weights.outputs(x, 8))
    assert not weights.direct

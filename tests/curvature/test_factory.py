"""Tests of `bayesgen.curvature.factory`."""

import pytest
import torch
from torch import nn

from bayesgen.curvature import factory
from tests.helpers import fit_quietly, fixed_laplace

F64 = torch.float64


@pytest.fixture
def problem():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    g = torch.Generator().manual_seed(0)
    return net, torch.randn(20, 3, generator=g, dtype=F64), torch.arange(20) % 3


@pytest.mark.parametrize(
    ("limits", "root", "words"),
    [
        ((20_000, 20_000), 512, "root"),
        ((20_000, 20_000), 0, "GGN as a 31 × 31 matrix"),
        ((20_000, 0), 512, "Gram"),
        ((5, 5), 512, "Lanczos"),
    ],
)
def test_form_of_ggn_follows_sizes(problem, largest_sizes, monkeypatch, limits, root, words):
    largest_sizes(*limits)
    monkeypatch.setattr(factory, "LARGEST_ROOT", root)
    assert words in fit_quietly(fixed_laplace(problem[0]), *problem[1:]).evidence.method


@pytest.mark.parametrize(
    ("curvature", "parameters", "rows", "expected"),
    [
        ("ggn", 10, 1000, False),
        ("ggn", 50_000, 1000, False),
        ("ggn", 50_000, 40_000, True),
        ("hessian", 4_000, 10, False),
        ("hessian", 4_001, 10, True),
        ("kron", 50_000, 50_000, False),
    ],
)
def test_large_curvatures_are_used_by_products_alone(curvature, parameters, rows, expected):
    assert factory.by_products_only(curvature, parameters, rows) == expected


def test_last_linear_layer_is_found_by_name():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2), nn.Softplus())
    assert factory.last_linear(net) == "2"
    with pytest.raises(ValueError, match="ends in an nn.Linear"):
        factory.last_linear(nn.Sequential(nn.Conv2d(1, 1, 1)))

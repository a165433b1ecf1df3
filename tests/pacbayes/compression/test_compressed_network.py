"""Tests of `bayesgen.pacbayes.compression.compressed_network`."""

import math

import pytest
import torch
from torch import nn

import bayesgen as bg
from bayesgen import pacbayes
from bayesgen.pacbayes.compression.arithmetic_coding import encode
from bayesgen.pacbayes.compression.compressed_network import Subspace, zero_one_risk
from bayesgen.pacbayes.compression.projections import PROJECTIONS


@pytest.mark.parametrize("projection", list(PROJECTIONS))
def test_code_decodes_to_certified_network(digits, net, projection):
    k = sum(p.numel() for p in net.parameters()) if projection == "identity" else 120
    settings = {"dimension": k, "levels": 5, "epochs": 15, "quantised_epochs": 10, "batch": 64}
    small = pacbayes.compress(
        net, digits.x_train, digits.y_train, projection=projection, **settings
    )
    fresh = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
    decoded = pacbayes.decode(small.code, fresh, projection)
    assert zero_one_risk(decoded, digits.x_train, digits.y_train) == small.risk
    for a, b in zip(decoded.parameters(), small.decoded().parameters(), strict=True):
        assert torch.equal(a, b)
    assert small.risk < 0.25
    assert small.bits < k * 2.5 + 300
    made = small.certificate(candidates=4)
    paid = math.log(4)
    assert made.bound == pytest.approx(
        float(pacbayes.occam(small.risk, small.log_prior - paid, 1400))
    )
    assert made.bound <= small.certificate(candidates=4, bound="countable").bound
    assert made.bound < 0.65 or projection == "identity"
    assert "decode to it exactly" in str(made)
    test = zero_one_risk(decoded, digits.x_test, digits.y_test)
    assert test < made.bound


def test_random_labels_cannot_be_compressed(digits, net):
    random, _ = bg.corrupt_labels(digits.y_train, 1.0, num_classes=10)
    small = pacbayes.compress(net, digits.x_train, random, dimension=120, epochs=5, batch=64)
    assert small.certificate().vacuous


def test_origin_is_reproduced_from_seed(net):
    like = torch.zeros(1)
    one, two = (Subspace.of(net, 10, "sparse", 3, like) for _ in range(2))
    assert torch.equal(one.origin, two.origin)
    z = torch.randn(10)
    module = one.module(z)
    x = torch.randn(4, 64)
    torch.testing.assert_close(module(x), one.outputs(z, x))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"dimension": 10**6}, ValueError, "dimension must be at most the net's"),
        ({"levels": 1}, ValueError, r"levels must be an integer|levels must lie in 2\.\.255"),
        ({"levels": 300}, ValueError, r"levels must lie in 2\.\.255"),
        ({"projection": "dense"}, ValueError, "projection must be one of"),
        ({"epochs": 0}, ValueError, "epochs must be an integer"),
        ({"learning_rate": 1e30}, ValueError, "the loss became|lower learning_rate"),
        ({"levels": 21}, ValueError, "levels must be at most the dimension, 20, got 21"),
        ({"seed": -1}, ValueError, "seed must be an integer of at least 0, got -1"),
        ({"seed": 1.5}, ValueError, "seed must be an integer of at least 0, got 1.5"),
        ({"seed": 2**32}, ValueError, "seed must be at most 4294967295"),
        ({"entropy": math.nan}, ValueError, "entropy must be finite"),
        ({"entropy": "a"}, TypeError, "entropy must be a number"),
        ({"learning_rate": None}, TypeError, "learning_rate must be a number"),
        ({"learning_rate": 3e6}, ValueError, "the loss became|learning_rate must be lower"),
    ],
)
def test_invalid_settings_raise(digits, net, change, error, message):
    with pytest.raises(error, match=message):
        pacbayes.compress(
            net, digits.x_train, digits.y_train, **{"dimension": 20, "epochs": 1, **change}
        )


def test_invalid_nets_labels_and_codes_raise(digits, net):
    x, y = digits.x_train, digits.y_train
    with pytest.raises(ValueError, match="net must have parameters"):
        pacbayes.compress(nn.ReLU(), x, y)
    with pytest.raises(ValueError, match=r"labels|y must lie in 0\.\.4"):
        pacbayes.compress(nn.Linear(64, 5), x, y, dimension=10)
    with pytest.raises(ValueError, match="y must have shape"):
        pacbayes.compress(net, x, y[:-1], dimension=10)
    with pytest.raises(ValueError, match="at least its header"):
        pacbayes.decode(b"", net, "sparse")
    with pytest.raises(ValueError, match="code must hold 101 bytes"):
        pacbayes.decode(b"abc", net, "sparse")
    with pytest.raises(ValueError, match="projection must be one of"):
        pacbayes.decode(b"abc", net, "dense")
    with pytest.raises(ValueError, match=r"symbols must lie in 0\.\.2"):
        encode([3], 3)

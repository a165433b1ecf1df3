"""Tests of `bayesgen.networks.small`."""

import pytest

import bayesgen as bg


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bg.networks.MLP(0), "inputs must be"),
        (lambda: bg.networks.MLP(2, activation="swish"), "activation must be one of"),
        (lambda: bg.networks.PreResNet20(0), "width must be"),
        (lambda: bg.networks.PreResNet20(2, norm="layer"), "norm must be one of"),
        (lambda: bg.networks.LeNet(size=4), "size must be"),
    ],
)
def test_invalid_architectures_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()

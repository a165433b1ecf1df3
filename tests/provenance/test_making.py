"""Tests of `bayesgen.provenance.making`."""

import copy
import io
from collections import deque

import numpy as np
import pytest
import torch
from torch import nn

import bayesgen as bg
from bayesgen.provenance.making import made_without_data

X = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
OTHER = nn.Linear(4, 2)
FILE = io.BytesIO()
torch.save(OTHER.state_dict(), FILE)


def orthogonal():
    net = nn.Linear(4, 2)
    nn.init.orthogonal_(net.weight)
    net.register_buffer("means", torch.tensor([0.485, 0.456, 0.406]))
    return net


def seeded():
    torch.manual_seed(3)
    return nn.Linear(3, 3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Dropout()),
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, batch_first=True), 2),
        lambda: bg.networks.PreResNet20(4, 10),
        lambda: bg.networks.MLP(4, (3,), 2).double(),
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 2)),
        lambda: nn.LSTM(3, 4),
        lambda: nn.Embedding(10, 4, padding_idx=0),
        orthogonal,
        seeded,
        lambda: nn.Sequential(*[copy.deepcopy(nn.BatchNorm1d(3)) for _ in range(2)]),
        lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 2)),
        lambda: bg.networks.ResNet18(4, 10),
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Flatten()),
        lambda: nested(5),
    ],
)
def test_random_weights_and_constants_are_recognised(make):
    assert made_without_data(make)[1] == ""


def loaded():
    net = nn.Linear(4, 2)
    net.load_state_dict(OTHER.state_dict())
    return net


def from_file():
    net = nn.Linear(4, 2)
    net.load_state_dict(torch.load(io.BytesIO(FILE.getvalue())))
    return net


def trained():
    net = nn.Linear(4, 2)
    net(X).sum().backward()
    torch.optim.SGD(net.parameters(), 0.1).step()
    return net


def changed(**attributes):
    net = nn.Linear(4, 2)
    for name, value in attributes.items():
        setattr(net, name, value)
    return net


def buffered():
    net = nn.Linear(4, 2)
    net.register_buffer("data", X)
    return net


class UsesAnother(nn.Linear):
    def __init__(self):
        super().__init__(4, 2)

    def forward(self, x):
        return OTHER(x) + 0 * super().forward(x)


def nested(depth):
    net = nn.Linear(4, 2)
    for _ in range(depth):
        net = nn.Sequential(net)
    return net


@pytest.mark.parametrize(
    "make",
    [
        lambda: copy.deepcopy(OTHER),
        loaded,
        from_file,
        trained,
        buffered,
        lambda: changed(weight=OTHER.weight),
        lambda: changed(weight=nn.Parameter(torch.from_numpy(np.ones((2, 40), dtype="f4")))),
        lambda: changed(held=[OTHER]),
        lambda: changed(held=(X, 1)),
        lambda: changed(held=torch.tensor(X.tolist())),
        lambda: changed(held=X.numpy()),
        lambda: changed(held=float(X.sum())),
        lambda: changed(held=deque([OTHER])),
        lambda: changed(held=np.array([OTHER], dtype=object)),
        lambda: changed(held=np.arange(40)),
        lambda: changed(weight=nn.Parameter(torch.from_numpy(np.ones((3, 4), dtype="f4")))),
        lambda: changed(forward=lambda x: OTHER(x)),
        UsesAnother,
        lambda: nested(40),
    ],
)
def test_what_comes_from_outside_is_recognised(make):
    assert made_without_data(make)[1]

"""Fixtures of the tests of compression."""

import pytest
import torch
from torch import nn

import bayesgen as bg


@pytest.fixture(scope="module")
def digits():
    return bg.data.load("digits", dtype=torch.float32)


@pytest.fixture
def net():
    return nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))

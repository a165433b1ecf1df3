"""Fixtures of the tests of training."""

import pytest
import torch

import bayesgen as bg


@pytest.fixture
def digits():
    return bg.data.load("digits", train=120, test=60, dtype=torch.float32)

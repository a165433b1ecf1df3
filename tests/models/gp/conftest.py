"""Fixtures of the tests of Gaussian processes."""

import pytest
import torch

from tests.helpers import noisy_waves, points

F64 = torch.float64


@pytest.fixture
def problem():
    x = points(500, 3)
    y = torch.stack([noisy_waves(x), torch.randn(500, 3, generator=torch.Generator().manual_seed(1),
                                             dtype=F64)])  # fmt: skip
    return x, y

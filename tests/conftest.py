import warnings

import numpy as np
import pytest
import torch
from hypothesis import settings

# arviz 0.23 announces its successor at import; said once here, not in each test.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import arviz  # noqa: F401

settings.register_profile("default", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("default")


def pytest_collection_modifyitems(items):
    skip = pytest.mark.skip(reason="no CUDA device")
    for item in items:
        if "cuda" in item.keywords and not torch.cuda.is_available():
            item.add_marker(skip)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def regression():
    """Inputs (40, 2) and targets (3, 40, 2) of three labellings."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(40, 2, generator=generator, dtype=torch.float64)
    base = torch.stack([torch.sin(4 * x[:, 0]), torch.cos(3 * x[:, 1])], -1)
    noise = torch.randn(3, 40, 2, generator=generator, dtype=torch.float64)
    return x, base + torch.tensor([0.05, 0.2, 0.8], dtype=torch.float64)[:, None, None] * noise

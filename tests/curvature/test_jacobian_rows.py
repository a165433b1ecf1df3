"""Tests of `bayesgen.curvature.jacobian_rows`."""

import pytest
import torch

from bayesgen.curvature import jacobian_rows


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)},
        {"kernel_size": 3, "dilation": (2, 1), "stride": 2},
        {"kernel_size": (4, 3), "dilation": (1, 2), "padding": "same"},
        {"kernel_size": 1, "padding": "valid"},
    ],
)
def test_windows_are_permuted_patches(settings):
    module = torch.nn.Conv2d(3, 2, **settings).double()
    x = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    seen = jacobian_rows.patches(module, x)
    other = jacobian_rows.windows(module, x)
    kh, kw = module.kernel_size
    laid = other.reshape(2, -1, kh, kw, 3).permute(0, 4, 2, 3, 1).reshape(seen.shape)
    torch.testing.assert_close(laid, seen, rtol=0, atol=0)
    weight = module.weight.detach().reshape(2, -1)
    made = weight @ seen + module.bias.detach()[:, None]
    torch.testing.assert_close(made.reshape(module(x).shape), module(x).detach())

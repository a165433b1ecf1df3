"""Tests of `bayesgen.select.surface`."""

import pytest
import torch

import bayesgen as bg
from bayesgen.select import surface


def test_surface_equals_fits_with_everything_fixed():
    x = torch.linspace(-1, 1, 30, dtype=torch.float64)
    y = torch.stack([torch.sin(3 * x), x**2 + 0.1 * torch.cos(50 * x)], 1)
    model = bg.Polynomial(6, bg.priors.geometric(2.0))
    got = surface(model, x, y, scales=[0.1, 2.0], noises=[0.01, 0.1, 1.0])
    for k in (0, 3, 6):
        prior = bg.priors.geometric(2.0, scale=2.0)
        one = bg.Polynomial(k, prior, 0.1, hyperparameters="fixed").fit(x, y)
        want = float(one.evidence.log_marginal_likelihood)
        assert float(got.sel(order=k, scale=2.0, noise=0.1)) == pytest.approx(want, rel=1e-10)
    with pytest.raises(ValueError, match=r"orders must lie in 0\.\.6"):
        surface(model, x, y, scales=[1.0], noises=[1.0], orders=[7])

"""Tests of `bayesgen.curvature.float32_error`."""

import warnings

import pytest
import torch
from torch import nn

import bayesgen as bg

F64 = torch.float64


@pytest.mark.parametrize("curvature", ["kron", "diag"])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_float32_error_of_blocks_covers_gap(curvature, norm):
    torch.manual_seed(0)
    x, y = torch.randn(60, 3, 16, 16), torch.randint(10, (60,))
    net = bg.networks.PreResNet20(2, norm=norm)
    bg.train(net, x, y, epochs=5, batch=20, optimiser="adam", learning_rate=0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bg.NotAtModeWarning)
        low, high = (
            bg.Laplace(net, curvature=curvature, hyperparameters="fixed", dtype=dtype)
            .fit(x, y)
            .evidence
            for dtype in (torch.float32, torch.float64)
        )
    gap = abs(float(low.log_marginal_likelihood - high.log_marginal_likelihood))
    assert gap < float(low.error) < 0.1
    assert 0 < float(high.error) < 1e-9


@pytest.mark.parametrize("case", ["learnt", "fixed", "layers"])
def test_float32_error_of_gram_matrix_covers_gap(case):
    torch.manual_seed(0)
    net = bg.networks.LeNet()
    x, y = torch.randn(24, 1, 28, 28), torch.arange(24) % 10
    bg.train(net, x, y, epochs=4, optimiser="adam", batch=8)
    alpha = torch.tensor([1.0, 1.5, 2.0, 2.5, 3.0]) if case == "layers" else 2.0
    learn = "evidence" if case == "learnt" else "fixed"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bg.NotAtModeWarning)
        rough, exact = (
            bg.Laplace(net, prior_precision=alpha, hyperparameters=learn, dtype=dtype).fit(x, y)
            for dtype in (torch.float32, F64)
        )
    gap = rough.evidence.log_marginal_likelihood - exact.evidence.log_marginal_likelihood
    assert "Gram" in rough.evidence.method
    # The outputs, and with them the fit, are float32 too.
    assert abs(float(gap)) <= float(rough.evidence.error) + 1e-3
    assert rough.evidence.error < 0.24


def test_unit_at_its_kink_keeps_error_small():
    """The unit is off for one observation in float32 and on in float64."""
    g = torch.Generator().manual_seed(3)
    x, y = torch.randn(32, 20, generator=g), torch.arange(32) % 4
    torch.manual_seed(3)
    net = bg.networks.MLP(20, (40,), 4)
    first = next(m for m in net.modules() if isinstance(m, nn.Linear))
    with torch.no_grad():
        for unit in range(40):
            first.bias[unit] = 0
            at = first(x[:1])[0, unit]
            if float((first.weight[unit].double() @ x[0].double()) - at.double()) > 1e-9:
                first.bias[unit] = -at
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bg.NotAtModeWarning)
        rough, exact = (
            bg.Laplace(net, prior_precision=0.01, hyperparameters="fixed", dtype=dtype).fit(x, y)
            for dtype in (torch.float32, F64)
        )
    assert "Gram" in rough.evidence.method
    gap = abs(
        float(rough.evidence.log_marginal_likelihood - exact.evidence.log_marginal_likelihood)
    )
    assert gap < float(rough.evidence.error) < max(100 * gap, 0.05)

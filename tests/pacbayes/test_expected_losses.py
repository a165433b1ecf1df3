"""Tests of `bayesgen.pacbayes.expected_losses`."""

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from scipy import integrate, stats

from bayesgen.pacbayes import expected_losses


def one(value):
    return torch.tensor([[value]], dtype=torch.float64)


@pytest.mark.parametrize("C", [2, 3, 10, 100, 1000])
@pytest.mark.parametrize("size", [0.1, 1.0, 10.0])
def test_zero_one_risk_matches_fine_integral(C, size, rng):
    mean = size * torch.from_numpy(rng.standard_normal((3, C)))
    labels = torch.stack([mean[0].argmax(), mean[1].argmin(), torch.tensor(0)])
    z = np.linspace(-14, 14, 5_001)
    got = expected_losses.zero_one(mean, torch.full((3, 1), 0.49, dtype=torch.float64), labels)
    for row, label, value in zip(mean.numpy(), labels, got, strict=True):
        lead = np.delete((row[label] - row) / 0.7, int(label))
        wrong = -np.expm1(stats.norm.logcdf(z[:, None] + lead).sum(1))
        assert float(value) == pytest.approx(np.trapezoid(stats.norm.pdf(z) * wrong, z), abs=1e-8)


def test_zero_one_risk_matches_draws(rng):
    mean = torch.from_numpy(rng.standard_normal((4, 5)))
    variance = torch.tensor([[0.1], [1.0], [3.0], [0.01]], dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3])
    draws = mean + variance.sqrt() * torch.from_numpy(rng.standard_normal((200_000, 4, 5)))
    seen = (draws.argmax(-1) != labels).double().mean(0)
    torch.testing.assert_close(
        expected_losses.zero_one(mean, variance, labels), seen, rtol=0, atol=5e-3
    )


def test_two_outputs_equal_sign_of_their_difference(rng):
    mean = torch.from_numpy(rng.standard_normal((50, 2)))
    labels = torch.from_numpy(rng.integers(0, 2, 50))
    two = expected_losses.zero_one(mean, torch.ones(50, 1).double(), labels)
    sign = expected_losses.zero_one(
        mean[:, 1:] - mean[:, :1], torch.full((50, 1), 2.0).double(), labels
    )
    torch.testing.assert_close(two, sign)


def test_zero_variance_gives_error_of_argmax():
    mean = torch.tensor([[1.0, 0.0, 0.2], [1.0, 2.0, 0.0]], dtype=torch.float64)
    got = expected_losses.zero_one(mean, torch.zeros(2, 1).double(), torch.tensor([0, 0]))
    torch.testing.assert_close(got, torch.tensor([0.0, 1.0]).double())
    assert (
        expected_losses.zero_one(mean, torch.ones(2, 1).double(), torch.tensor([0, 0]))
        .isfinite()
        .all()
    )


def test_gradients_match_differences(rng):
    mean = torch.from_numpy(rng.standard_normal((3, 4))).requires_grad_()
    variance = torch.tensor([[0.5], [1.0], [2.0]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 3])
    assert torch.autograd.gradcheck(
        lambda m, v: expected_losses.zero_one(m, v, labels), (mean, variance), atol=1e-7
    )


@given(st.floats(-5, 5), st.floats(1e-12, 1e4), st.floats(1e-3, 100), st.floats(-3, 3))
def test_clipped_squared_loss_matches_quadrature(mean, variance, most, y):
    sd = variance**0.5
    mu, edge = mean - y, most**0.5
    corners = [z for z in ((-edge - mu) / sd, (edge - mu) / sd) if abs(z) < 12]

    def integrand(z):
        return min((mu + sd * z) ** 2, most) * stats.norm.pdf(z)

    want = integrate.quad(integrand, -12, 12, points=sorted(corners) or None, limit=400)[0]
    got = float(expected_losses.clipped_squared(one(mean), one(variance), one(y), most))
    assert got == pytest.approx(want, rel=1e-7, abs=1e-10)


def test_clipped_nll_equals_nll_without_clipping():
    noise = torch.tensor(0.5, dtype=torch.float64)
    got = expected_losses.clipped_nll(one(0.3), one(0.1), one(0.7), noise, (-5.0, 1e6))
    want = 0.5 * np.log(2 * np.pi * 0.5) + (0.4**2 + 0.1) / (2 * 0.5)
    assert float(got) == pytest.approx(want)
    narrow = expected_losses.clipped_nll(one(0.3), one(0.1), one(0.7), noise, (1.0, 1.2))
    assert 1.0 < float(narrow) < 1.2
    with pytest.raises(ValueError, match="above the least value of the loss"):
        expected_losses.clipped_nll(one(0.3), one(0.1), one(0.7), noise, (-1.0, 0.1))


@pytest.mark.parametrize(
    ("variance", "labels", "message"),
    [
        (torch.ones(2, 3), torch.tensor([0, 1]), "variance must be shared"),
        (-torch.ones(2, 1), torch.tensor([0, 1]), "variance must be at least 0"),
        (torch.ones(2, 1), torch.tensor([0, 3]), r"labels must lie in 0\.\.2"),
        (torch.ones(2, 1), torch.tensor([0]), "labels must have shape"),
    ],
)
def test_invalid_arguments_raise(variance, labels, message):
    with pytest.raises(ValueError, match=message):
        expected_losses.zero_one(torch.zeros(2, 3), variance, labels)

"""Tests of `bayesgen.pacbayes.inverse_kl`."""

import math
import random

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from bayesgen import pacbayes
from bayesgen.pacbayes.inverse_kl import _ERROR, _divergence, outwards

RISK = st.floats(0, 1)


@given(RISK, st.floats(0, 20))
def test_inverse_kl_inverts_binary_kl(risk, budget):
    q = float(pacbayes.upper_risk(risk, budget))
    assert risk <= q <= 1
    if risk < q < 1 - 1e-12:
        kl = (risk * math.log(risk / q) if risk else 0.0) + (
            (1 - risk) * math.log((1 - risk) / (1 - q)) if risk < 1 else 0.0
        )
        assert kl == pytest.approx(budget, rel=1e-8, abs=1e-13)
    assert float(pacbayes.lower_risk(1 - risk, budget)) == pytest.approx(1 - q, abs=1e-12)


def test_inverse_kl_at_end_points_and_gradients():
    assert float(pacbayes.upper_risk(0.0, 0.3)) == pytest.approx(-math.expm1(-0.3), rel=1e-14)
    assert float(pacbayes.upper_risk(1.0, 0.3)) == 1
    assert float(pacbayes.upper_risk(0.4, 0.0)) == 0.4
    assert float(pacbayes.upper_risk(0.3, 1e6)) == 1
    risk = torch.tensor([0.01, 0.3, 0.7], dtype=torch.float64, requires_grad=True)
    budget = torch.tensor([0.02, 0.1, 0.05], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pacbayes.upper_risk, (risk, budget))
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    pacbayes.upper_risk(ends, torch.tensor([0.1, 0.1])).sum().backward()
    assert torch.isfinite(ends.grad).all()


def exact_kl(p, q):
    """kl(p ‖ q) of two floats to 700 digits."""
    p, q = mpmath.mpf(p), mpmath.mpf(q)
    left = p * mpmath.log(p / q) if p else mpmath.mpf(0)
    return left + ((1 - p) * mpmath.log((1 - p) / (1 - q)) if p < 1 else 0)


def cases(count):
    """Risks and budgets, many of them extreme."""
    draw = random.Random(0)
    ends = [0.0, 1.0, 0.5, 1e-300, 5e-324, 1 - 2**-53, 1 - 1e-16]
    for _ in range(count):
        risk = [
            draw.random(),
            10 ** draw.uniform(-310, 0),
            1 - 10 ** draw.uniform(-16, 0),
            draw.choice(ends),
        ][draw.randrange(4)]
        budget = draw.choice([10 ** draw.uniform(-300, 4), 10 ** draw.uniform(-20, 2), 1e-300, 0.0])
        yield risk, budget
    for risk in ends:
        for budget in (1e-300, 1e-16, 1e-3, 1.0, 700.0, 1e4):
            yield risk, budget


def inward(p, q, budget):
    """The value a few units in the last place, and of the divergence, nearer to the risk."""
    slope = abs(mpmath.mpf(q) - p) / (q * (1 - mpmath.mpf(q))) if 0 < q < 1 else 0
    room = 4 * mpmath.mpf(math.ulp(q)) + (3 * _ERROR * budget / slope if slope else 0)
    return q - room if q > p else q + room


def test_inverses_lie_outside_the_roots_in_exact_arithmetic_and_close_to_them():
    pairs = list(cases(700))
    risks, budgets = (torch.tensor(v, dtype=torch.float64) for v in zip(*pairs, strict=True))
    upper, lower = pacbayes.upper_risk(risks, budgets), pacbayes.lower_risk(risks, budgets)
    with mpmath.workdps(700):
        for (p, budget), above, below in zip(pairs, upper.tolist(), lower.tolist(), strict=True):
            assert 0 <= below <= p <= above <= 1
            assert above == 1 or exact_kl(p, above) >= budget, (p, budget, above)
            assert below == 0 or exact_kl(p, below) >= budget, (p, budget, below)
            if budget == 0:
                assert above == below == p
                continue
            for q in (above, below if below > 1e-307 else p):  # subnormal numbers have few digits
                near = inward(p, q, budget)
                outside = (near > p and q > p) or (near < p and q < p)
                assert not outside or exact_kl(p, near) < budget, (p, budget, q)


def test_scalars_and_broadcast_arrays_give_the_same():
    risks = torch.tensor([[0.1], [0.4]], dtype=torch.float64)
    budgets = torch.tensor([1e-6, 0.3, 2.0], dtype=torch.float64)
    whole = pacbayes.upper_risk(risks, budgets)
    assert whole.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            one = pacbayes.upper_risk(float(risks[i]), float(budgets[j]))
            assert float(one) == pytest.approx(float(whole[i, j]), rel=1e-13)


def test_the_divergence_has_its_stated_error():
    generator = np.random.default_rng(0)
    p = generator.random(300)
    q = np.clip(p + (10 ** generator.uniform(-15, 0, 300)) * generator.choice([-1, 1], 300), 0, 1)
    q = np.where((q == p) | (q == 0) | (q == 1), 0.3, q)
    with mpmath.workdps(60):
        for a, b, value in zip(p.tolist(), q.tolist(), _divergence(p, q).tolist(), strict=True):
            want = exact_kl(a, b)
            assert abs(value - want) <= _ERROR / 2 * want, (a, b)


def test_lower_risk_has_implicit_derivatives():
    risk = torch.tensor([0.02, 0.3, 0.9], dtype=torch.float64, requires_grad=True)
    budget = torch.tensor([0.01, 0.1, 0.05], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pacbayes.lower_risk, (risk, budget))
    mirrored = 1 - pacbayes.upper_risk(1 - risk, budget)
    torch.testing.assert_close(pacbayes.lower_risk(risk, budget), mirrored)


def test_monte_carlo_is_rounded_upwards():
    with mpmath.workdps(60):
        for draws, delta in ((7, 0.3), (10_000, 0.01), (3, 1 - 1e-12)):
            bound = float(pacbayes.monte_carlo(0.1, draws, delta))
            assert exact_kl(0.1, bound) >= -mpmath.log(mpmath.mpf(delta)) / draws


def test_outwards_raises_by_the_size_of_the_terms():
    value = torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64)
    assert (outwards(value) >= value).all()
    assert float(outwards(value[:1], 1e6) - 1) == pytest.approx(32 * 2.0**-52 * 1e6, rel=1e-3)


@pytest.mark.parametrize("inverse", [pacbayes.upper_risk, pacbayes.lower_risk])
@pytest.mark.parametrize("budget", [0.0, 5000.0])
def test_derivatives_are_zero_and_finite_where_the_inverse_has_none(inverse, budget):
    risk = torch.tensor([0.3, 0.0, 1.0], dtype=torch.float64, requires_grad=True)
    spent = torch.tensor(budget, dtype=torch.float64, requires_grad=True)
    inverse(risk, spent).sum().backward()
    assert torch.isfinite(risk.grad).all()
    assert torch.isfinite(spent.grad)
    if budget:
        assert risk.grad.tolist() == [0.0, 0.0, 0.0]

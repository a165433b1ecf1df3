"""Tests of `bayesgen.pacbayes.inverse_kl`."""

import math

import pytest
import torch
from hypothesis import given, strategies as st

from bayesgen import pacbayes

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

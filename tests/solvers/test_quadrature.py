"""Tests of `bayesgen.solvers.quadrature`."""

import pytest
import torch

from bayesgen.solvers.quadrature import Measure, SquaredProduct

F64 = torch.float64


@pytest.mark.parametrize("shared", [True, False])
def test_sums_over_shifts_match_integrals(shared):
    g = torch.Generator().manual_seed(0)
    nodes = torch.rand(*(() if shared else (2,)), 5, generator=g, dtype=F64)
    measure = Measure(nodes, torch.rand(2, 5, generator=g, dtype=F64))
    shifts = torch.tensor([0.1, 1.0, 3.0], dtype=F64)
    logs = torch.stack([measure.integrate(lambda v, r=r: (v + r).log()) for r in shifts], -1)
    inverse = torch.stack([measure.integrate(lambda v, r=r: 1 / (v + r)) for r in shifts], -1)
    torch.testing.assert_close(measure.log_shifted(shifts), logs)
    torch.testing.assert_close(measure.resolvent(shifts), inverse)


def test_squared_product_matches_definition_and_its_gradient():
    g = torch.Generator().manual_seed(0)
    U = torch.randn(1500, 4, generator=g, dtype=F64)
    w = torch.randn(4, 2, generator=g, dtype=F64, requires_grad=True)
    torch.testing.assert_close(SquaredProduct.apply(U, w), U.square() @ w)
    assert torch.autograd.gradcheck(lambda v: SquaredProduct.apply(U[:7], v), (w,))

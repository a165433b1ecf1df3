"""Tests of `bayesgen.curvature.function_space`."""

import pytest
import torch
from hypothesis import given, strategies as st

import bayesgen as bg
from bayesgen.curvature import factory
from tests.helpers import fit_quietly, fixed_laplace

F64 = torch.float64


@given(seed=st.integers(0, 50), precision=st.floats(1e-2, 1e2))
def test_function_space_equals_weight_space(seed, precision):
    g = torch.Generator().manual_seed(seed)
    x, y = torch.randn(8, 3, generator=g, dtype=F64), torch.randint(3, (8,), generator=g)
    torch.manual_seed(seed)
    net = bg.networks.MLP(3, (4,), 3, activation="tanh").double()
    new = torch.randn(3, 3, generator=g, dtype=F64)
    found = []
    for primal in (0, 4000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(factory, "LARGEST_PRIMAL", primal)
            model = fixed_laplace(net, precision=precision)
            found.append(fit_quietly(model, torch.cat([x] * 3), torch.cat([y] * 3)))
    a, b = found
    assert a.evidence.method != b.evidence.method
    for part in ("log_marginal_likelihood", "fit", "effective_dimension"):
        torch.testing.assert_close(
            getattr(a.evidence, part), getattr(b.evidence, part), rtol=1e-8, atol=1e-8
        )
    torch.testing.assert_close(
        a.predict(new, latent=True).stddev, b.predict(new, latent=True).stddev
    )

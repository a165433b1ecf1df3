"""Tests of `bayesgen.curvature.function_space`."""

import pytest
import torch
from hypothesis import given, strategies as st

import bayesgen as bg
from bayesgen.curvature import factory
from bayesgen.curvature.curvature import PriorShape
from bayesgen.curvature.function_space import DualGGN
from bayesgen.curvature.jacobian import Sample, jacobians
from bayesgen.curvature.jacobian_gram import grams
from bayesgen.curvature.parameters import Weights
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


@pytest.mark.parametrize("decomposed", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_dual_ggn_matches_dense_algebra(decomposed, groups):
    torch.manual_seed(0)
    weights = Weights(bg.networks.MLP(3, (4,), 2, activation="tanh").double(), None)
    P, n = weights.count, 6
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    eye = torch.eye(2, dtype=F64).expand(n, 2, 2)
    sample = Sample(x, torch.full((n, 2), 0.25, dtype=F64), eye, 4, 1e9)
    prior = PriorShape(
        torch.linspace(0.5, 2, P, dtype=F64), (torch.arange(P) >= 16).long() * (groups - 1), groups
    )
    found = DualGGN(weights, sample, prior, grams(weights, sample, prior), decomposed=decomposed)
    precision = torch.tensor([0.7, 3.0], dtype=F64)[:groups]
    J = torch.cat(list(jacobians(weights, x, 2, 4))).flatten(0, 1)
    H, alpha = 0.25 * J.mT @ J, prior.precision(precision)
    terms, full = found.terms(precision), H + alpha.diag()
    torch.testing.assert_close(terms.logdet, torch.logdet(full) - alpha.log().sum())
    share = torch.linalg.solve(full, H).diagonal()
    torch.testing.assert_close(terms.effective_parameters, prior.sums(share))
    new = torch.randn(2, 3, generator=torch.Generator().manual_seed(1), dtype=F64)
    Jn = next(iter(jacobians(weights, new, 2, 4)))
    want = Jn @ torch.linalg.solve(full, Jn.mT)
    torch.testing.assert_close(found.covariance(new, precision), want)
    g = torch.linspace(-1, 1, P, dtype=F64)
    gain = float(0.5 * g @ torch.linalg.solve(full, g))
    assert found.gain(g, precision) >= gain * (1 - 1e-9)
    draws = found.draw(20_000, precision, torch.Generator().manual_seed(0))
    covariance = torch.linalg.inv(full)
    torch.testing.assert_close(
        draws.mT.cov(), covariance, rtol=0, atol=0.05 * float(covariance.diagonal().max())
    )

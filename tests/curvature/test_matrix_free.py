"""Tests of `bayesgen.curvature.matrix_free`."""

import pytest
import torch

import bayesgen as bg
from bayesgen.curvature import matrix_free
from bayesgen.curvature.parameters import Weights
from tests.helpers import fixed_laplace, network_problem


def _warned(model, x, y):
    with pytest.warns(bg.NotAtModeWarning, match="negative eigenvalue"):
        return model.fit(x, y)


F64 = torch.float64


@pytest.mark.parametrize("kind", ["ggn", "hessian"])
def test_matrix_free_evidence_is_within_its_error(largest_sizes, kind):
    net, x, y = network_problem(n=40)
    exact = fixed_laplace(net, curvature="ggn").fit(x, y)
    if kind == "hessian":
        exact = _warned(fixed_laplace(net, curvature=kind), x, y)
    largest_sizes(5, 5)
    model = fixed_laplace(net, curvature=kind, probes=64)
    ours = model.fit(x, y) if kind == "ggn" else _warned(model, x, y)
    gap = ours.evidence.log_marginal_likelihood - exact.evidence.log_marginal_likelihood
    assert 0 < float(ours.evidence.error) < 2
    assert abs(float(gap)) < 4 * float(ours.evidence.error)
    with pytest.raises(ValueError, match="products alone"):
        ours.predict(x)


@pytest.mark.parametrize("seed", range(3))
def test_lanczos_estimates_of_ggn_are_within_their_errors(largest_sizes, seed):
    g = torch.Generator().manual_seed(seed)
    x, y = torch.randn(200, 8, generator=g, dtype=F64), torch.randint(10, (200,), generator=g)
    torch.manual_seed(seed)
    weights = Weights(bg.networks.MLP(8, (12,), 10).double(), None)
    likelihood = bg.likelihoods.Softmax(10)
    inner = likelihood.targets(y, weights.outputs(x, 64))[0]
    op = matrix_free.operator("ggn", weights, likelihood, [(x, inner)])
    exact = bg.Spectrum.dense(matrix_free.matrix(op))
    ours = bg.Spectrum.lanczos(op, probes=32, steps=60, seed=seed)
    for function in (lambda v: v, lambda v: v.clamp(min=0).log1p(), lambda v: v / (v + 1)):
        gap = float((ours.density.integrate(function) - exact.density.integrate(function)).abs())
        assert gap < 4 * float(ours.sampling_error(function))

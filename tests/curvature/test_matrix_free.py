"""Tests of `bayesgen.curvature.matrix_free`."""

import pytest
import torch

import bayesgen as bg
from bayesgen.curvature import matrix_free
from bayesgen.curvature.curvature import PriorShape
from bayesgen.curvature.matrix_free import MatrixFree
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
    with pytest.raises(ValueError, match="only through its products"):
        ours.predict(x)


@pytest.mark.parametrize("seed", range(3))
def test_lanczos_estimates_of_ggn_are_within_their_errors(largest_sizes, seed):
    g = torch.Generator().manual_seed(seed)
    x, y = torch.randn(200, 8, generator=g, dtype=F64), torch.randint(10, (200,), generator=g)
    torch.manual_seed(seed)
    weights = Weights(bg.networks.MLP(8, (12,), 10).double(), None)
    likelihood = bg.likelihoods.Softmax(10)
    inner = likelihood.targets(y, weights.outputs(x, 64))[0]
    op, _ = matrix_free.operator("ggn", weights, likelihood, [(x, inner)])
    exact = bg.Spectrum.dense(matrix_free.matrix(op))
    ours = bg.Spectrum.lanczos(op, probes=32, steps=60, seed=seed)
    for function in (lambda v: v, lambda v: v.clamp(min=0).log1p(), lambda v: v / (v + 1)):
        gap = float((ours.density.integrate(function) - exact.density.integrate(function)).abs())
        assert gap < 4 * float(ours.sampling_error(function))


def problem_of_softmax(n=15):
    torch.manual_seed(0)
    weights = Weights(bg.networks.MLP(3, (4,), 3, activation="tanh").double(), None)
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    likelihood = bg.likelihoods.Softmax(3)
    inner = likelihood.targets(torch.arange(n) % 3, weights.outputs(x, 64))[0]
    return weights, x, likelihood, inner


@pytest.mark.parametrize("kind", ["ggn", "hessian"])
def test_operator_matches_autograd(kind):
    weights, x, likelihood, inner = problem_of_softmax()

    def f(theta):
        return torch.func.functional_call(weights.net, weights.unpacked(theta), (x,))

    def loss(scores):
        return -likelihood.log_density(inner, scores.reshape(len(x), -1)).sum()

    if kind == "hessian":
        want = torch.autograd.functional.hessian(lambda t: loss(f(t)), weights.theta)
    else:
        J = torch.autograd.functional.jacobian(f, weights.theta).flatten(0, 1)
        outer = torch.autograd.functional.hessian(loss, f(weights.theta).reshape(-1))
        want = J.mT @ outer @ J
    batches = [(x[:8], inner[:8]), (x[8:], inner[8:])]
    op, _ = matrix_free.operator(kind, weights, likelihood, batches)
    torch.testing.assert_close(matrix_free.matrix(op, batch=7), want)


def test_quantities_that_need_a_basis_raise_and_the_gain_is_a_bound():
    weights, x, likelihood, inner = problem_of_softmax()
    op, _ = matrix_free.operator("ggn", weights, likelihood, [(x, inner)])
    P = weights.count
    one = PriorShape(torch.ones(P, dtype=F64), torch.zeros(P).long(), 1)
    settings = {"probes": 4, "steps": 10, "seed": 0}
    found = MatrixFree(weights, one, op, "GGN", **settings)
    precision, g = torch.tensor([2.0], dtype=F64), torch.ones(P, dtype=F64)
    H = matrix_free.matrix(op) + 2.0 * torch.eye(P, dtype=F64)
    assert found.gain(g, precision) >= float(0.5 * g @ torch.linalg.solve(H, g))
    for call in (
        lambda: found.covariance(x, precision),
        lambda: found.draw(2, precision, torch.Generator()),
    ):
        with pytest.raises(ValueError, match="used only through its products"):
            call()
    two = PriorShape(torch.ones(P, dtype=F64), torch.zeros(P).long(), 2)
    with pytest.raises(ValueError, match="prior_precision must be one number"):
        MatrixFree(weights, two, op, "GGN", **settings)

"""Tests of `bayesgen.curvature.kept_rows`."""

import pytest
import torch
from hypothesis import given, strategies as st

import bayesgen as bg
from bayesgen.curvature.curvature import CurvatureTerms, PriorShape
from bayesgen.curvature.gradient_check import RowsDifferError
from bayesgen.curvature.jacobian import Sample, jacobians
from bayesgen.curvature.kept_rows import kept_rows
from bayesgen.curvature.parameters import Weights
from tests.helpers import fit_quietly

F64 = torch.float64


def problem(seed, n=30, C=3, dtype=F64):
    """A network, observations whose curvature spans many orders, and the rows of Λ^½JS^½."""
    g = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    weights = Weights(bg.networks.MLP(4, (5,), C, activation="tanh").to(dtype), None)
    x = torch.randn(n, 4, generator=g, dtype=F64).to(dtype)
    values = torch.exp(-12 * torch.rand(n, C, generator=g, dtype=F64)).to(dtype)
    sample = Sample(x, values, torch.eye(C, dtype=dtype).expand(n, C, C), 7, 1e9)
    P = weights.count
    prior = PriorShape(torch.linspace(0.5, 2, P, dtype=F64), torch.zeros(P).long(), 1)
    J = torch.cat(list(jacobians(weights, x, C, 7)))
    rows = (values.double().sqrt()[..., None] * J / prior.base.sqrt()).flatten(0, 1)
    return weights, sample, prior, rows


@pytest.mark.parametrize("memory", [1e9, 2000.0])
@given(seed=st.integers(0, 50), budget=st.sampled_from([1e-3, 0.1, 3.0, 1e9]))
def test_the_determinant_of_all_rows_is_within_its_bounds(memory, seed, budget):
    weights, sample, prior, rows = problem(seed)
    precision = 0.5
    some = Sample(sample.x, sample.values, sample.vectors, sample.batch, memory)
    found = kept_rows(weights, some, prior, precision, budget)
    own = rows[found.sample.kept.reshape(-1)]
    torch.testing.assert_close(found.gram, own @ own.mT)
    others = rows[~found.sample.kept.reshape(-1)]
    torch.testing.assert_close(found.left.squares, others.square().sum(1))
    extra = float((found.left.squares / precision).log1p().sum())
    assert extra <= budget * (1 + 1e-12)
    assert bool(found.sample.kept.any(1).all())

    def logdet(r):
        return float(torch.linalg.slogdet(torch.eye(len(r), dtype=F64) + r @ r.mT / precision)[1])

    low, whole = logdet(own), logdet(rows)
    assert low - 1e-9 <= whole <= low + extra + 1e-9

    at = torch.tensor([precision], dtype=F64)
    inverse = torch.linalg.inv(torch.eye(len(own), dtype=F64) + own @ own.mT / precision)
    alone = CurvatureTerms(torch.tensor(low).double(), torch.zeros(1, dtype=F64), torch.tensor(0.0))
    got = found.left.completed(alone, inverse, at)
    assert abs(float(got.logdet) - whole) <= 4 * float(got.error) + 1e-9
    assert float(got.error) <= extra / 2 + 1e-12


def test_sums_estimate_the_determinant_and_the_effective_parameters():
    weights, sample, prior, rows = problem(3, n=60)
    found = kept_rows(weights, sample, prior, 2.0, 5.0)
    own = rows[found.sample.kept.reshape(-1)]

    def freedom(r):
        k = torch.linalg.eigvalsh(r @ r.mT / 2)
        return float((k / (1 + k)).sum())

    inverse = torch.linalg.inv(torch.eye(len(own), dtype=F64) + own @ own.mT / 2)
    low = torch.logdet(inverse).neg()
    alone = CurvatureTerms(low, torch.tensor([freedom(own)], dtype=F64), low * 0)
    got = found.left.completed(alone, inverse, torch.tensor([2.0], dtype=F64))
    whole = torch.linalg.slogdet(torch.eye(len(rows), dtype=F64) + rows @ rows.mT / 2)[1]
    extra = whole - low
    assert float(extra) < 0.7 * float(found.left.bound(torch.tensor([2.0], dtype=F64)))
    assert float(got.logdet - low) == pytest.approx(float(extra), rel=0.25)
    more = freedom(rows) - freedom(own)
    assert float(got.effective_parameters) - freedom(own) == pytest.approx(more, rel=0.4)


def test_rows_above_one_block_make_the_same_gram_matrix():
    weights, sample, prior, rows = problem(0, n=500)
    found = kept_rows(weights, sample, prior, 1e-6, 1e-9)
    assert len(found.gram) > 1024
    own = rows[found.sample.kept.reshape(-1)]
    torch.testing.assert_close(found.gram, own @ own.mT)


def test_rows_are_compared_with_the_gradient():
    weights, sample, prior, _ = problem(0)
    c = torch.ones_like(sample.values)
    gradient = weights.vjp(sample.x, sample.values.sqrt() * c)
    right = Sample(sample.x, sample.values, sample.vectors, 7, 1e9, c, gradient)
    kept_rows(weights, right, prior, 1.0, 0.1)
    wrong = Sample(sample.x, sample.values, sample.vectors, 7, 1e9, c, gradient + 1)
    with pytest.raises(RowsDifferError):
        kept_rows(weights, wrong, prior, 1.0, 0.1)


@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize("prior", ["scalar", "layer"])
def test_evidence_with_a_tolerance_agrees_within_its_error(dtype, prior):
    data = bg.data.load("digits", train=60, dtype=F64)
    torch.manual_seed(0)
    net = bg.networks.MLP(64, (32,), 10).double()
    x, y = data.x_train, data.y_train
    bg.train(net, x, y, epochs=100, optimiser="adam", learning_rate=0.01)
    alpha = 2.0 if prior == "scalar" else torch.tensor([1.0, 3.0])
    settings = {"prior_precision": alpha, "hyperparameters": "fixed"}
    exact = fit_quietly(bg.Laplace(net, **settings), x, y)
    rough = fit_quietly(bg.Laplace(net, **settings, dtype=dtype, tolerance=1e-3), x, y)
    assert "the others estimated" in rough.evidence.method
    a, b = exact.evidence, rough.evidence
    gap = abs(float(a.log_marginal_likelihood - b.log_marginal_likelihood))
    assert gap <= 4 * float(b.error)  # four standard errors
    assert float(b.error) < 1e-4 * len(x)
    assert len(rough._fitted.curvature.left.squares) > 100
    # The curvature of fewer rows is smaller, so that a Newton step seems to gain slightly more.
    assert exact.gain * (1 - 1e-4) <= rough.gain <= exact.gain * 1.5
    new = data.x_test[:5]
    sd = [p.predict(new, latent=True).stddev for p in (exact, rough)]
    torch.testing.assert_close(sd[1].double(), sd[0], rtol=0.05, atol=0)
    draws = rough.sample_weights(2000, seed=0).double() @ rough.theta.double()
    assert float(draws.mean()) == pytest.approx(
        float(rough.theta.double().square().sum()), rel=0.05
    )


def test_tolerance_refuses_what_it_does_not_hold_for():
    net = bg.networks.MLP(4, (5,), 3)
    with pytest.raises(ValueError, match='tolerance > 0 needs curvature="ggn"'):
        bg.Laplace(net, curvature="kron", hyperparameters="fixed", tolerance=1e-3)
    with pytest.raises(ValueError, match="learnt: prior_precision"):
        bg.Laplace(net, tolerance=1e-3)
    with pytest.raises(ValueError, match="tolerance must be finite and at least 0"):
        bg.Laplace(net, hyperparameters="fixed", tolerance=-1.0)
    with pytest.raises(TypeError, match="tolerance must be a number"):
        bg.Laplace(net, hyperparameters="fixed", tolerance="small")

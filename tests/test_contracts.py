"""Contracts of public functions as properties: ranges, monotonicity, invariances, round trips."""

import math

import numpy as np
import pytest
import torch
from gpytorch.kernels import RBFKernel
from hypothesis import assume, given, settings, strategies as st
from torch import nn

import bayesgen as bg
from bayesgen import likelihoods, networks, pacbayes, solvers

F64 = torch.float64
SEED = st.integers(0, 10**6)
RISK = st.floats(0.0, 1.0)
N = st.integers(2, 10**6)
DELTA = st.floats(1e-6, 0.9)
DIMENSION = st.floats(1.0, 1e5)
MORE = st.floats(1.0, 100.0)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def covariance(seed, n, d=3):
    x = normal(seed, n, d)
    return x @ x.mT + torch.eye(n, dtype=F64)


# ---------------------------------------------------------------- bounds of capacity


@pytest.mark.parametrize("bound", [pacbayes.vc, pacbayes.fat_shattering])
@given(RISK, DIMENSION, N, DELTA, MORE)
def test_bounds_of_dimension_are_monotone_and_above_the_risk(
    bound, risk, dimension, n, delta, more
):
    def value(*arguments):
        return min(1.0, float(bound(*arguments)))  # beyond 1 they say nothing

    least = value(risk, dimension, n, delta)
    assert least >= risk
    assert value(risk, dimension * more, n, delta) >= least - 1e-9
    assert value(risk, dimension, math.ceil(n * more), delta) <= least + 1e-9
    assert value(risk, dimension, n, delta / more) >= least - 1e-9
    assert value(min(1.0, risk * more), dimension, n, delta) >= least - 1e-9


@given(RISK, st.floats(0.0, 10.0), st.floats(0.01, 10.0), N, DELTA, MORE)
def test_margin_bound_is_monotone_and_above_the_risk(risk, complexity, margin, n, delta, more):
    value = float(pacbayes.rademacher(risk, complexity, margin, n, delta))
    assert value >= risk
    assert float(pacbayes.rademacher(risk, complexity * more, margin, n, delta)) >= value
    assert float(pacbayes.rademacher(risk, complexity, margin * more, n, delta)) <= value
    assert float(pacbayes.rademacher(risk, complexity, margin, math.ceil(n * more), delta)) <= value
    assert float(pacbayes.rademacher(risk, complexity, margin, n, delta / more)) >= value


@given(SEED, st.integers(2, 30), st.floats(0.1, 10.0), st.floats(0.1, 10.0))
def test_rademacher_complexities_are_ordered_and_have_units(seed, n, norm, factor):
    x = normal(seed, n, 3)
    K = x @ x.mT
    sampled = pacbayes.rademacher_sampled(K, norm, draws=50, seed=seed)
    trace = float(pacbayes.rademacher_trace(K, norm))
    assert 0 <= sampled.value <= trace + 5 * sampled.error + 1e-9
    assert trace <= float(pacbayes.rademacher_norm(x, norm)) * (1 + 1e-12)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    assert float(pacbayes.rademacher_trace(K[order][:, order], norm)) == pytest.approx(trace)
    # In another unit of x, the norm of w in its own unit gives the same functions.
    scaled = pacbayes.rademacher_trace(factor**2 * K, norm / factor)
    assert float(scaled) == pytest.approx(trace)


@given(st.floats(0.1, 10.0), st.floats(0.1, 10.0), st.floats(0.1, 10.0), st.floats(0.1, 10.0))
def test_fat_shattering_dimension_depends_on_the_product_of_units(radius, norm, scale, factor):
    value = float(pacbayes.fat_shattering_dimension(radius, norm, scale))
    assert value >= 1
    scaled = pacbayes.fat_shattering_dimension(radius * factor, norm, scale * factor)
    assert float(scaled) == pytest.approx(value)
    assert float(pacbayes.fat_shattering_dimension(radius, norm, 2 * scale)) <= value


@given(RISK, st.integers(1, 10**6), DELTA, MORE)
def test_monte_carlo_bound_lies_between_the_risk_and_one(risk, draws, delta, more):
    value = float(pacbayes.monte_carlo(risk, draws, delta))
    assert risk <= value <= 1
    assert float(pacbayes.monte_carlo(risk, math.ceil(draws * more), delta)) <= value + 1e-12
    assert float(pacbayes.monte_carlo(risk, draws, delta / more)) >= value - 1e-12


@given(st.floats(0.0, 0.49), st.floats(0.0, 1.0))
def test_c_bound_is_a_probability(gibbs, share):
    # Two voters err together at most as often as one of them, and at least 2 gibbs − 1 of the time.
    joint = gibbs * share
    assert 0 <= float(pacbayes.c_bound(gibbs, joint)) <= 1


# ---------------------------------------------------------------- spectra and solvers


@given(SEED, st.integers(2, 12), st.floats(-6, 6), st.floats(-6, 6))
def test_evidence_of_a_spectrum_has_the_units_of_its_targets(seed, n, unit, kernel_unit):
    K, y = covariance(seed, n), normal(seed + 1, n)
    one = bg.Spectrum.dense(K, y).evidence(1.3, 0.2)
    c, k = 10.0**unit, 10.0**kernel_unit
    other = bg.Spectrum.dense(k * K, c * y).evidence(1.3 * c**2 / k, 0.2 * c**2)
    shifted = other.log_marginal_likelihood + n * math.log(c)
    torch.testing.assert_close(shifted, one.log_marginal_likelihood, rtol=1e-9, atol=1e-8)
    torch.testing.assert_close(other.complexity, one.complexity, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(
        other.effective_dimension, one.effective_dimension, rtol=1e-9, atol=0
    )


@given(SEED, st.integers(2, 12), st.integers(1, 3))
def test_order_of_rows_and_of_outputs_leaves_a_spectrum(seed, n, outputs):
    K, y = covariance(seed, n), normal(seed + 1, n, outputs)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    one = bg.Spectrum.dense(K, y).evidence(1.0, 0.1)
    other = bg.Spectrum.dense(K[order][:, order], y[order].flip(1)).evidence(1.0, 0.1)
    for part in ("fit", "complexity", "effective_dimension"):
        torch.testing.assert_close(getattr(other, part), getattr(one, part), rtol=1e-9, atol=1e-9)


@given(SEED, st.integers(2, 10))
def test_repeated_observations_count_as_their_mean(seed, n):
    """Two observations of each point equal their mean at half the noise, up to a known factor."""
    K, noise = covariance(seed, n), 0.3
    y, z = normal(seed + 1, n), normal(seed + 2, n)
    twice = bg.Spectrum.dense(K.repeat(2, 2), torch.cat([y, z])).evidence(1.0, noise)
    mean = bg.Spectrum.dense(K, (y + z) / 2).evidence(1.0, noise / 2)
    deviation = torch.tensor(2 * noise, dtype=F64).sqrt()
    rest = torch.distributions.Normal(0 * deviation, deviation).log_prob(y - z).sum()
    # Each pair has the density of its mean and of its difference; the map has determinant 1.
    torch.testing.assert_close(
        twice.log_marginal_likelihood,
        mean.log_marginal_likelihood + rest,
        rtol=1e-9,
        atol=1e-8,
    )
    torch.testing.assert_close(twice.complexity, mean.complexity, rtol=1e-8, atol=1e-8)


@given(SEED, st.integers(1, 4), st.integers(2, 10), st.integers(1, 3))
def test_batched_evidence_equals_that_of_each_matrix(seed, batch, n, outputs):
    A = torch.stack([covariance(seed + b, n) for b in range(batch)])
    y = normal(seed, batch, n, outputs)
    found = solvers.batched_evidence(A, y)
    for b in range(batch):
        law = torch.distributions.MultivariateNormal(torch.zeros(n, dtype=F64), A[b])
        value = law.log_prob(y[b].mT).sum()
        torch.testing.assert_close(found.log_marginal_likelihood[b], value, rtol=1e-9, atol=1e-9)
    low = solvers.batched_evidence(A, y, dtype=torch.float32)
    gap = (low.log_marginal_likelihood - found.log_marginal_likelihood).abs()
    assert (gap <= 3 * (low.error + found.error) + 1e-3).all()


# ---------------------------------------------------------------- models and their comparison


def posterior(seed=0, n=12):
    x, y = normal(seed, n, 2), normal(seed + 1, n)
    return bg.GaussianProcess(RBFKernel().double(), noise=0.3, hyperparameters="fixed").fit(x, y)


@given(SEED, st.integers(1, 7))
@settings(max_examples=10)
def test_predictions_do_not_depend_on_the_other_rows(seed, rows):
    fitted, x = posterior(), normal(seed, rows, 2)
    whole = fitted.predict(x)
    for i in range(rows):
        one = fitted.predict(x[i : i + 1])
        torch.testing.assert_close(one.mean[0], whole.mean[i], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(one.stddev[0], whole.stddev[i], rtol=1e-9, atol=1e-11)


@given(SEED)
@settings(max_examples=10)
def test_learning_curve_adds_up_to_the_evidence(seed):
    fitted = posterior(seed)
    total = fitted.evidence.log_marginal_likelihood
    torch.testing.assert_close(fitted.learning_curve(seed=seed).sum(), total, rtol=1e-8, atol=1e-8)
    whole = fitted.conditional_evidence(0, orderings=2, seed=seed).log_marginal_likelihood
    torch.testing.assert_close(whole, total, rtol=1e-8, atol=1e-8)


@given(st.permutations(["a", "b", "c"]), st.floats(0.05, 0.9))
@settings(max_examples=10)
def test_comparison_does_not_depend_on_the_order_of_models(names, weight):
    x, y = normal(0, 12), normal(1, 12)
    degrees = {"a": 0, "b": 1, "c": 3}
    fitted = {n: bg.Polynomial(degrees[n], noise=0.5).fit(x, y) for n in names}
    prior = {"a": weight, "b": (1 - weight) / 2, "c": (1 - weight) / 2}
    table = bg.compare(fitted, prior=prior)
    assert table.probability.sum() == pytest.approx(1.0)
    assert (table.delta <= 0).all()
    logs = {n: float(f.evidence.log_marginal_likelihood) for n, f in fitted.items()}
    odds = table.probability["a"] / table.probability["b"]
    assert math.log(odds) == pytest.approx(
        logs["a"] - logs["b"] + math.log(prior["a"] / prior["b"])
    )


# ---------------------------------------------------------------- labels and data


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20))
def test_one_hot_rows_hold_the_label_and_centre(labels):
    rows = likelihoods.one_hot(labels, 5)
    assert rows.shape == (len(labels), 5)
    assert rows.argmax(1).tolist() == labels
    assert all(row.unique().numel() == 2 for row in rows)


@given(SEED, st.integers(12, 40), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=15)
def test_parts_of_a_data_set_are_rows_of_it(seed, n, train, test):
    rng = np.random.default_rng(seed)
    x, labels = rng.normal(size=(n, 2)), np.arange(n) % 3
    try:
        whole = bg.data.from_arrays(x, labels, test=0.5, seed=seed)
    except ValueError:  # by chance, a class has no training point
        assume(False)
    part = bg.data.subset(whole, train, test, seed=seed)
    assert (len(part.y_train), len(part.y_test)) == (train, test)
    rows = {tuple(row) for row in whole.x_train.tolist()}
    assert all(tuple(row) in rows for row in part.x_train.tolist())
    merged = bg.data.merge(whole, ((0, 2), (1,)))
    assert merged.num_classes == 2
    assert len(merged.y_train) == len(whole.y_train)
    two = bg.data.restrict(whole, (2, 0))
    assert len(two.y_train) == int((whole.y_train != 1).sum())
    assert torch.equal(two.x_train[two.y_train == 0], whole.x_train[whole.y_train == 2])


# ---------------------------------------------------------------- networks


@given(SEED, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(3, 6))
@settings(max_examples=15)
def test_dense_form_is_the_convolution(seed, channels, out, size, side):
    torch.manual_seed(seed)
    conv = nn.Conv2d(channels, out, size, padding=size // 2).double()
    dense = networks.dense_form(conv, (channels, side, side))
    x = normal(seed, 4, channels, side, side)
    torch.testing.assert_close(dense(x.flatten(1)), conv(x).flatten(1), rtol=1e-9, atol=1e-11)


@given(SEED, st.lists(st.integers(1, 6), max_size=3), st.integers(1, 4), st.integers(1, 3))
@settings(max_examples=15)
def test_networks_have_the_stated_shapes(seed, hidden, inputs, outputs):
    torch.manual_seed(seed)
    net, x = networks.MLP(inputs, tuple(hidden), outputs), torch.randn(5, inputs)
    assert net(x).shape == (5, outputs)
    torch.testing.assert_close(net(x[2:4]), net(x)[2:4])


@given(SEED, st.integers(1, 2))
@settings(max_examples=10)
def test_low_rank_layers_depend_on_the_seed_alone(seed, rank):
    torch.manual_seed(seed)
    net = networks.MLP(6, (8,), 3)
    before, x = [p.clone() for p in net.parameters()], torch.randn(5, 6)
    one, two = (networks.low_rank(net, rank, seed=seed) for _ in range(2))
    torch.testing.assert_close(one(x), two(x), rtol=0, atol=0)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert sum(p.numel() for p in one.parameters()) < sum(p.numel() for p in before)

"""Tests of `bayesgen.likelihoods.mixture`."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from bayesgen.likelihoods import Bernoulli, LatentMixture, Poisson, StudentT
from bayesgen.likelihoods.likelihood import Separable
from bayesgen.likelihoods.mixture import log_expectation

F64 = torch.float64
VARIANCES = [1e-6, 1.0, 1e4, 1e8]


def number(value):
    return torch.tensor([value], dtype=F64)


def graded(place, scale, reach):
    """Points around a place at distances that double."""
    found, step = [place], scale
    while step < reach:
        found += [place - step, place + step]
        step *= 2
    return found


def expected(log_g, mean, variance, places):
    """log E[g(f)] by SciPy's quadrature, on intervals around places of given scales."""
    sd = math.sqrt(variance)
    low, high = mean - 18 * sd, mean + 18 * sd
    points = [mean + k * sd for k in range(-18, 19)]
    for place, scale in places:
        points += graded(place, scale, abs(place - mean) + 18 * sd)
        points += [place + 2 * k * scale for k in range(-8, 9)]
    inside = sorted({low, high, *(p for p in points if low < p < high)})

    def log_integrand(f):
        return log_g(f) - (f - mean) ** 2 / (2 * variance)

    top = max(log_integrand(f) for f in inside)
    total = 0.0
    for a, b in pairwise(inside):
        part = integrate.quad(lambda f: math.exp(log_integrand(f) - top), a, b, epsrel=1e-11)
        total += part[0]
    return math.log(total) + top - 0.5 * math.log(2 * math.pi * variance)


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("mean", [0.0, 3.0, -40.0])
def test_averaged_probability_of_a_label_is_exact(mean, variance):
    want = expected(lambda f: -float(np.logaddexp(0, -f)), mean, variance, [(0.0, 1.0)])
    found = Bernoulli().predictive(number(mean), number(variance))
    assert float(found.probs) == pytest.approx(math.exp(want), abs=1e-10)
    assert float(found.log_prob(number(1.0))) == pytest.approx(want, abs=1e-7)
    # A change of the sign of f swaps the labels.
    other = Bernoulli().predictive(number(-mean), number(variance))
    assert float(other.log_prob(number(0.0))) == pytest.approx(want, abs=1e-7)


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize(("df", "noise"), [(4.0, 1.0), (1.0, 0.01), (1000.0, 1.0)])
def test_density_of_a_real_target_is_exact(variance, df, noise):
    mean, scale = 3.0, math.sqrt(noise)
    peer = stats.t(df, 0, scale)
    constant = float(peer.logpdf(0))
    for y in (mean, mean + 5 * math.sqrt(variance), mean - 2.5 * math.sqrt(variance + noise)):

        def log_g(f, y=y):
            return constant - (df + 1) / 2 * math.log1p((y - f) ** 2 / (df * noise))

        want = expected(log_g, mean, variance, [(y, scale)])
        found = StudentT(df, noise).predictive(number(mean), number(variance))
        assert float(found.log_prob(number(y))) == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("y", [0.0, 1.0, 20.0, 3e4])
def test_probability_of_a_count_is_exact(variance, y):
    mean = 1.0
    # Bisection finds the peak of the integrand.
    low, high = -60 - 20 * math.sqrt(variance), 20.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        up = y - math.exp(middle) - (middle - mean) / variance > 0
        low, high = (middle, high) if up else (low, middle)
    peak, width = low, 1 / math.sqrt(math.exp(low) + 1 / variance)
    top = y * peak - math.exp(peak) - math.lgamma(y + 1) - (peak - mean) ** 2 / (2 * variance)

    def log_g(f):
        return y * f - math.exp(f) - math.lgamma(y + 1) if f < 700 else -math.inf

    found = Poisson().predictive(number(mean), number(variance))
    if top < -200:  # far in the tail, where SciPy's intervals do not reach the peak
        assert float(found.log_prob(number(y))) < -200
        return
    want = expected(log_g, mean, variance, [(0.0, 1.0), (peak, width)])
    assert float(found.log_prob(number(y))) == pytest.approx(want, abs=1e-6)


def test_densities_integrate_to_one_and_to_their_distribution_function():
    mean, variance = number(0.5), number(2.0)
    found = StudentT(3.0, 0.01).predictive(mean, variance)

    def density(y):
        return float(found.log_prob(number(y)).exp())

    below = integrate.quad(density, -60, 1.2, points=[0.0], limit=200)[0]
    assert float(found.cdf(number(1.2))) == pytest.approx(below, abs=1e-6)
    counts = Poisson().predictive(mean, variance)
    several = torch.arange(6, dtype=F64)
    total = counts.log_prob(several).exp().sum()
    torch.testing.assert_close(counts.cdf(number(5.0))[0], total)


def test_moments_are_those_of_the_mixture_and_of_its_draws():
    mean, variance = torch.tensor([0.2, 1.0], dtype=F64), torch.tensor([0.3, 0.1], dtype=F64)
    torch.manual_seed(0)
    for likelihood in (Poisson(), StudentT(8.0, 0.5)):
        found = likelihood.predictive(mean, variance)
        draws = found.sample((40000,))
        assert draws.shape == (40000, 2)
        torch.testing.assert_close(draws.mean(0), found.mean, rtol=0.03, atol=0.02)
        torch.testing.assert_close(draws.var(0), found.variance, rtol=0.08, atol=0.02)
    assert StudentT(1.0).predictive(mean, variance).mean.isnan().all()
    assert StudentT(2.0).predictive(mean, variance).variance.isinf().all()
    assert StudentT(1.5).predictive(mean, variance).variance.isinf().all()


def test_observations_are_checked_after_a_compilation_too(monkeypatch):
    """`torch.compile` turns off the checks of all distributions that follow torch's default."""
    monkeypatch.setattr("torch.distributions.Distribution._validate_args", False)
    mean = torch.zeros(3, dtype=F64)
    with pytest.raises(ValueError, match="support"):
        Poisson().predictive(mean, mean + 1).log_prob(mean - 1)


def test_batch_shapes_are_those_of_the_latent_values():
    mean = torch.zeros(3, 2, dtype=F64)
    found = StudentT(4.0, 1.0).predictive(mean, mean + 1)
    assert found.batch_shape == (3, 2)
    assert found.log_prob(torch.zeros(5, 3, 2, dtype=F64)).shape == (5, 3, 2)
    wide = found.expand((4, 3, 2))
    assert wide.log_prob(torch.zeros(2, dtype=F64)).shape == (4, 3, 2)
    with pytest.raises(ValueError, match="support"):
        Poisson().predictive(mean, mean + 1).log_prob(mean - 1)
    small = found.log_prob(mean)[0, 0]
    single = StudentT(4.0, 1.0).predictive(mean.float(), mean.float() + 1)
    assert float(single.log_prob(mean.float())[0, 0]) == pytest.approx(float(small), abs=1e-5)


class Laplacian(Separable):
    """A user's own likelihood with a kink, without derivatives or predictions of its own."""

    name = "laplacian"
    density = True

    def targets(self, y, like):
        return self.observations("y", y, like)

    def element(self, y, f):
        return -(y - f).abs() / 0.1 - math.log(0.2)

    def observe(self, f):
        return torch.distributions.Laplace(f, 0.1)


def test_a_likelihood_of_ones_own_is_integrated():
    found = Laplacian().predictive(number(0.3), number(4.0))
    assert isinstance(found, LatentMixture)
    sd = 2.0

    def integrand(f):
        return stats.laplace.pdf(1.0, f, 0.1) * stats.norm.pdf(f, 0.3, sd)

    want = integrate.quad(integrand, -15, 15, points=[1.0, 0.3], limit=200, epsabs=1e-13)[0]
    assert float(found.log_prob(number(1.0))) == pytest.approx(math.log(want), abs=1e-4)
    torch.testing.assert_close(found.mean, number(0.3))
    torch.testing.assert_close(found.variance, number(4.02))
    assert float(found.cdf(number(0.3))) == pytest.approx(0.5, abs=1e-9)


def test_expectation_is_differentiable_in_mean_and_variance():
    mean, variance = number(0.4).requires_grad_(), number(2.0).requires_grad_()
    value = log_expectation(torch.nn.functional.logsigmoid, mean, variance)
    slopes = torch.autograd.grad(value.sum(), (mean, variance))
    h = 1e-5
    for k, slope in enumerate(slopes):
        ends = []
        for sign in (1, -1):
            at = [0.4, 2.0]
            at[k] += sign * h
            m, v = number(at[0]), number(at[1])
            ends.append(float(log_expectation(torch.nn.functional.logsigmoid, m, v)))
        assert float(slope) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-5)
    assert value.isfinite().all()


def test_median_has_half_of_the_probability_below():
    mean = torch.tensor([-5.0, 0.0, 2.0, 10.0, 3.0], dtype=torch.float64)
    variance = torch.tensor([1.0, 1.0, 100.0, 0.01, 0.0], dtype=torch.float64)
    counts = LatentMixture(Poisson(), mean, variance)
    assert (counts.cdf(counts.median) >= 0.5).all()
    assert (counts.cdf((counts.median - 1).clamp(min=0))[1:] < 0.5).all()
    # The mean grows with e^(v/2), the median does not.
    assert counts.median[2] < 20 < counts.mean[2]
    real = LatentMixture(StudentT(4.0, 1.0), mean, variance)
    torch.testing.assert_close(real.median, mean, atol=1e-9, rtol=1e-9)  # by symmetry

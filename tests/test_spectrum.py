import math

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from torch.autograd import gradcheck
from torch.distributions import MultivariateNormal, kl_divergence

from bayesgen import Spectrum

F64 = torch.float64


def problem(n, outputs, seed, batch=()):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, generator=generator, dtype=F64)
    K = torch.exp(-0.5 * torch.cdist(x, x) ** 2)
    K = 0.5 * (K + K.mT)
    y = torch.randn(*batch, n, outputs, generator=generator, dtype=F64)
    return K, y


settings_of = {
    "n": st.integers(1, 30),
    "outputs": st.integers(1, 4),
    "seed": st.integers(0, 1000),
    "scale": st.floats(1e-3, 1e3),
    "noise": st.floats(1e-2, 1e2),
}


@given(**settings_of)
def test_evidence_is_the_multivariate_normal_density(n, outputs, seed, scale, noise):
    K, y = problem(n, outputs, seed)
    got = Spectrum.dense(K, y).evidence(scale, noise)
    cov = (scale * K + noise * torch.eye(n, dtype=F64)).numpy()
    want = sum(multivariate_normal.logpdf(y[:, c].numpy(), cov=cov) for c in range(outputs))
    assert got.log_marginal_likelihood.item() == pytest.approx(want, rel=1e-8)
    assert got.error.item() < 1e-6 * max(1, abs(want))


@given(**settings_of)
def test_complexity_is_the_kl_of_posterior_from_prior(n, outputs, seed, scale, noise):
    K, y = problem(n, outputs, seed)
    K = K + 0.1 * torch.eye(n, dtype=F64)  # an invertible prior, for torch's KL
    evidence = Spectrum.dense(K, y).evidence(scale, noise)
    prior = scale * K
    gain = torch.linalg.solve(prior + noise * torch.eye(n, dtype=F64), prior).mT
    cov = prior - gain @ prior
    cov = 0.5 * (cov + cov.mT)
    kl = sum(
        kl_divergence(
            MultivariateNormal(gain @ y[:, c], cov),
            MultivariateNormal(torch.zeros(n, dtype=F64), prior),
        )
        for c in range(outputs)
    )
    assert evidence.complexity.item() == pytest.approx(float(kl), rel=1e-9, abs=1e-9)
    gap = evidence.fit - evidence.complexity - evidence.log_marginal_likelihood
    assert abs(gap.item()) < 1e-9


def test_fit_is_the_expected_log_likelihood():
    K, y = problem(12, 1, 3)
    s, v = 1.7, 0.3
    gain = torch.linalg.solve(s * K + v * torch.eye(12, dtype=F64), s * K).mT
    mean, cov = gain @ y[:, 0], s * K - gain @ (s * K)
    want = -0.5 * (
        12 * math.log(2 * math.pi * v) + ((y[:, 0] - mean).square().sum() + cov.trace()) / v
    )
    assert Spectrum.dense(K, y).evidence(s, v).fit.item() == pytest.approx(want.item(), rel=1e-12)


def test_batch_equals_loop():
    K, y = problem(20, 3, 0, batch=(4,))
    whole = Spectrum.dense(K, y)
    scale = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=F64)
    evidence, best = whole.evidence(scale, 0.2), whole.maximise()
    for b in range(4):
        one = Spectrum.dense(K, y[b])
        part = one.evidence(scale[b], 0.2)
        torch.testing.assert_close(evidence[b].fit, part.fit, rtol=1e-12, atol=0)
        torch.testing.assert_close(evidence[b].complexity, part.complexity, rtol=1e-12, atol=0)
        torch.testing.assert_close(best.noise[b], one.maximise().noise, rtol=1e-6, atol=0)
    assert Spectrum.dense(K, y[0, :, 0]).evidence(1.0, 1.0).batch_shape == ()


@pytest.mark.parametrize("d", [1, 5, 12, 20])
def test_features_equal_dense(d):
    generator = torch.Generator().manual_seed(d)
    Phi = torch.randn(12, d, generator=generator, dtype=F64)
    y = torch.randn(2, 12, 3, generator=generator, dtype=F64)
    a, b = Spectrum.features(Phi, y), Spectrum.dense(Phi @ Phi.mT, y)
    ea, eb = a.evidence(0.7, 0.2), b.evidence(0.7, 0.2)
    for name in ("fit", "complexity", "effective_dimension"):
        torch.testing.assert_close(getattr(ea, name), getattr(eb, name), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(a.logdet(0.7, 0.2), b.logdet(0.7, 0.2))
    cov = 0.7 * Phi @ Phi.mT + 0.2 * torch.eye(12, dtype=F64)
    torch.testing.assert_close(a.solve(0.7, 0.2), torch.linalg.solve(cov, y))
    torch.testing.assert_close(b.solve(0.7, 0.2), torch.linalg.solve(cov, y))


def test_the_degree_150_polynomial_that_defeats_the_precision_matrix():
    n = 50
    t = torch.linspace(-1, 1, n, dtype=F64)
    j = torch.arange(151, dtype=F64)
    Phi = t[:, None] ** j * 2.0 ** (-j / 2)
    y = torch.sin(3 * t) * torch.cos(9 * t**2)
    got = Spectrum.features(Phi, y).evidence(1.0, 0.05**2).log_marginal_likelihood
    cov = (Phi @ Phi.mT + 0.05**2 * torch.eye(n, dtype=F64)).numpy()
    assert got.item() == pytest.approx(multivariate_normal.logpdf(y.numpy(), cov=cov), rel=1e-9)


def test_effective_dimension_and_logdet():
    K, _ = problem(15, 1, 5)
    alpha = torch.tensor([0.01, 1.0, 100.0], dtype=F64)
    values = torch.linalg.eigvalsh(K)
    want = torch.stack([(values / (values + a)).sum() for a in alpha])
    torch.testing.assert_close(Spectrum.dense(K).effective_dimension(alpha), want)
    torch.testing.assert_close(
        Spectrum.dense(K).logdet(2.0, 0.1),
        torch.logdet(2 * K + 0.1 * torch.eye(15, dtype=F64)),
    )


def test_gradient_and_hessian_by_autograd():
    K, y = problem(10, 2, 7)
    spectrum = Spectrum.dense(K, y)

    def value(logs):
        return spectrum.log_marginal_likelihood(logs[0].exp(), logs[1].exp())

    logs = torch.tensor([0.3, -1.2], dtype=F64, requires_grad=True)
    assert gradcheck(value, (logs,))
    at = spectrum.derivatives(logs[0].detach().exp(), logs[1].detach().exp())
    torch.testing.assert_close(at.value, value(logs).detach())
    (gradient,) = torch.autograd.grad(value(logs), logs)
    torch.testing.assert_close(at.gradient, gradient, rtol=1e-10, atol=1e-10)
    hessian = torch.autograd.functional.hessian(value, logs.detach())
    torch.testing.assert_close(at.hessian, hessian, rtol=1e-9, atol=1e-9)


def brute_force(spectrum, *, scale=None, noise=None):
    """Best of many Nelder–Mead runs over the free settings."""

    def negative(logs):
        logs = iter(np.clip(logs, -30, 30))
        s = scale if scale is not None else math.exp(next(logs))
        v = noise if noise is not None else math.exp(next(logs))
        return -float(spectrum.log_marginal_likelihood(s, v))

    free = (scale is None) + (noise is None)
    starts = np.stack(np.meshgrid(*[np.linspace(-6, 3, 4)] * free), -1).reshape(-1, free)
    options = {"xatol": 1e-9, "fatol": 1e-11, "maxiter": 4000}
    return max(
        -scipy.optimize.minimize(negative, s, method="Nelder-Mead", options=options).fun
        for s in starts
    )


@pytest.mark.parametrize("kept", [{}, {"noise": 0.3}, {"scale": 2.0}, {"scale": 2.0, "noise": 0.3}])
@pytest.mark.parametrize("seed", [0, 1])
def test_maximum_against_brute_force(kept, seed):
    K, _ = problem(25, 1, seed)
    generator = torch.Generator().manual_seed(seed)
    noise = 0.3 * torch.randn(25, generator=generator, dtype=F64)
    y = torch.linalg.cholesky(K + 1e-9 * torch.eye(25, dtype=F64)) @ torch.randn(
        25, generator=generator, dtype=F64
    )
    spectrum = Spectrum.dense(K, y + noise)
    best = spectrum.maximise(**kept)
    got = best.evidence.log_marginal_likelihood.item()
    if len(kept) == 2:
        assert got == spectrum.evidence(**kept).log_marginal_likelihood.item()
        return
    assert not best.at_bound
    assert got >= brute_force(spectrum, **kept) - 1e-7
    gradient = spectrum.derivatives(best.scale, best.noise).gradient
    for i, name in enumerate(("scale", "noise")):
        if name in kept:
            assert getattr(best, name).item() == kept[name]
        else:
            assert abs(gradient[i].item()) < 1e-6


def test_pure_signal_and_pure_noise_say_that_they_end_at_a_bound():
    x = torch.linspace(0, 1, 30, dtype=F64)[:, None]
    K = torch.exp(-((x - x.mT) ** 2) * 4)
    signal = Spectrum.dense(K, K @ torch.randn(30, dtype=F64, generator=torch.Generator()))
    assert signal.maximise().at_bound
    alternating = torch.tensor([1.0, -1.0], dtype=F64).repeat(15)
    noise = Spectrum.dense(K, alternating).maximise()
    assert noise.at_bound
    assert noise.noise.item() == pytest.approx(1.0, rel=1e-3)  # the targets' variance


def test_float32_carries_an_error_that_covers_the_difference():
    K, y = problem(200, 3, 11)
    exact = Spectrum.dense(K, y).evidence(1.0, 0.01)
    rounded = Spectrum.dense(K.float(), y.float()).evidence(1.0, 0.01)
    assert rounded.fit.dtype == torch.float32
    difference = (rounded.log_marginal_likelihood - exact.log_marginal_likelihood).abs()
    assert difference < rounded.error
    assert rounded.error < 0.05 * exact.log_marginal_likelihood.abs()


def test_bad_input():
    K, y = problem(5, 1, 0)
    with pytest.raises(ValueError, match=r"K must give a square \(5, 5\) matrix"):
        Spectrum.dense(torch.ones(5, 4, dtype=F64))
    with pytest.raises(ValueError, match="K must be symmetric"):
        Spectrum.dense(K + torch.triu(torch.ones(5, 5, dtype=F64)))
    with pytest.raises(ValueError, match="K must be positive semi-definite: its smallest"):
        Spectrum.dense(K - 2 * torch.eye(5, dtype=F64))
    with pytest.raises(ValueError, match="K must be finite"):
        Spectrum.dense(K * math.nan)
    with pytest.raises(ValueError, match="one row for each of the 5 inputs, got 4"):
        Spectrum.dense(K, y[:4])
    with pytest.raises(TypeError, match="y has dtype torch.float32"):
        Spectrum.dense(K, y.float())
    with pytest.raises(ValueError, match="noise must be positive and finite, got 0"):
        Spectrum.dense(K, y).evidence(1.0, 0)
    with pytest.raises(ValueError, match="built without targets"):
        Spectrum.dense(K).evidence(1.0, 1.0)
    with pytest.raises(ValueError, match="y must not be zero throughout"):
        Spectrum.dense(K, 0 * y).maximise()
    with pytest.raises(ValueError, match="K must not be zero throughout"):
        Spectrum.dense(0 * K, y).maximise()

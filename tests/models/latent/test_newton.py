"""Tests of `bayesgen.models.latent.newton`."""

import math

import gpytorch
import mpmath as mp
import pytest
import torch

import bayesgen as bg
from bayesgen.likelihoods import StudentT
from bayesgen.models import latent
from bayesgen.models.latent import newton
from tests.models.latent.problems import fixed, inputs, targets

F64 = torch.float64


def test_no_convergence_raises_with_gradient_norm(monkeypatch):
    monkeypatch.setattr(newton, "_MOST", 1)
    x = inputs(20)
    with pytest.raises(bg.NotConvergedError, match=r"gradient norm \d"):
        fixed("poisson", x, targets("poisson", x))


def test_newton_converges_on_extreme_data():
    x = torch.linspace(-1, 1, 30, dtype=F64)
    kernel = gpytorch.kernels.RBFKernel()
    counts = torch.full((30,), 1e6, dtype=F64)
    many = bg.GaussianProcess(kernel, likelihood="poisson").fit(x, counts)
    torch.testing.assert_close(many.mode(), counts.log(), atol=1e-3, rtol=0)
    y = torch.sin(3 * x)
    y[5] = 1e6  # Only this point is noisy: the evidence is largest at σ² = 0.
    robust = bg.GaussianProcess(kernel, likelihood="student-t").fit(x, y)
    assert robust.evidence.error < 0.2
    assert robust.evidence.effective_dimension < 30
    assert (robust.mode() - torch.sin(3 * x)).abs().max() < 0.1
    same = bg.GaussianProcess(kernel, likelihood="bernoulli").fit(x, torch.ones(30))
    assert -30 * math.log(2) < float(same.evidence.log_marginal_likelihood) < 0
    small = bg.GaussianProcess(kernel, likelihood="bernoulli").fit(x.float(), (x > 0).long())
    full = bg.GaussianProcess(kernel, likelihood="bernoulli").fit(x, (x > 0).long())
    gap = float(small.evidence.log_marginal_likelihood - full.evidence.log_marginal_likelihood)
    assert abs(gap) < max(0.01, float(small.evidence.error))


def counted(n, size):
    x = torch.linspace(-1, 1, n, dtype=F64) if n > 1 else torch.zeros(1, dtype=F64)
    generator = torch.Generator().manual_seed(n)
    return x, torch.poisson(size * torch.exp(torch.sin(3 * x)), generator=generator)


def log_evidence_of_counts(K, y):
    """Laplace's log Z of counts by Newton's method in 40 digits."""
    with mp.workdps(40):
        n = len(y)
        K = mp.matrix(K.tolist())
        counts = [mp.mpf(v) for v in y.tolist()]
        f = mp.matrix([mp.log(v + 0.5) for v in counts])
        for _ in range(200):
            W = [mp.exp(v) for v in f]
            b = mp.matrix([W[i] * f[i] + counts[i] - W[i] for i in range(n)])
            A = mp.eye(n) + mp.matrix([[W[i] * K[i, j] for j in range(n)] for i in range(n)])
            a = mp.lu_solve(A, b)
            step, f = max(abs(v) for v in K * a - f), K * a
            if step < mp.mpf(10) ** -25:
                break
        W = [mp.sqrt(mp.exp(v)) for v in f]
        B = mp.eye(n) + mp.matrix([[W[i] * K[i, j] * W[j] for j in range(n)] for i in range(n)])
        half = sum(mp.log(mp.cholesky(B)[i, i]) for i in range(n))
        seen = sum(c * v - mp.exp(v) - mp.loggamma(c + 1) for c, v in zip(counts, f, strict=True))
        return float(seen - (a.T * f)[0] / 2 - half)


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("size", [0.0, 1.0, 1e4, 1e9])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3, 1e6])
def test_evidence_of_counts_matches_newton_in_40_digits(n, size, scale):
    x, y = counted(n, size)
    posterior = fixed("poisson", x, y, lengthscale=0.7, scale=scale)
    K = float(posterior.scale) * posterior.kernels[0](x[:, None]).to_dense().detach()
    want = log_evidence_of_counts(K, y)
    evidence = posterior.evidence
    gap = abs(float(evidence.log_marginal_likelihood) - want)
    assert gap <= float(evidence.error) + 1e-9 * (1 + abs(want))
    assert float(evidence.error) < 1e-3


@pytest.mark.parametrize("name", ["RBFKernel", "LinearKernel", "MaternKernel"])
def test_learnt_prior_of_large_counts_takes_their_common_factor_for_variance(name):
    x, y = counted(20, 1e6)
    kernel = getattr(gpytorch.kernels, name)()
    posterior = bg.GaussianProcess(kernel, likelihood="poisson").fit(x, y)
    assert float(posterior.evidence.error) < 0.1
    if name != "LinearKernel":  # which is 0 at x = 0
        torch.testing.assert_close(posterior.mode(), y.log(), atol=0.01, rtol=0)
        assert not posterior.at_bound
        assert float(posterior.scale) > 10


def test_error_is_finite_where_the_prior_covariance_has_zero_row_sums():
    # The values are those of Newton's method for f = wx in one dimension.
    x = torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=F64)
    for y in (torch.tensor([0, 0, 1, 1]), torch.tensor([1, 0, 1, 0])):
        sign = (2 * y - 1) * x
        w = torch.zeros((), dtype=F64)
        for _ in range(50):
            p = torch.sigmoid(-sign * w)
            w = w - ((sign * p).sum() - w) / (-(p * (1 - p)).sum() - 1)
        p = torch.sigmoid(-sign * w)
        want = torch.nn.functional.logsigmoid(sign * w).sum() - 0.5 * w**2
        want = want - 0.5 * torch.log1p((p * (1 - p)).sum())
        linear = bg.LinearModel(likelihood="bernoulli", hyperparameters="fixed").fit(x, y)
        torch.testing.assert_close(linear.evidence.log_marginal_likelihood, want)
        assert float(linear.evidence.error) < 1e-8
        process = bg.GaussianProcess(gpytorch.kernels.LinearKernel(), likelihood="bernoulli")
        assert math.isfinite(float(process.fit(x, y).evidence.error))


def robust_problem(seed, df, noise):
    n = 8 + 6 * (seed % 2)
    generator = torch.Generator().manual_seed(seed)
    x = torch.linspace(-1, 1, n, dtype=F64)
    y = torch.sin(3 * x) + 0.1 * torch.randn(n, generator=generator, dtype=F64)
    y[n // 5] += [1.0, 3.0, 10.0][seed % 3]
    K = 2 * torch.exp(-2 * (x[:, None] - x) ** 2)
    return K, latent.problems(StudentT(df, noise), y[:, None])[0], generator


@pytest.mark.parametrize("df", [1.0, 4.0])
@pytest.mark.parametrize("seed", range(6))
def test_best_mode_is_that_of_many_random_starts(seed, df):
    K, problem, generator = robust_problem(seed, df, [0.01, 0.1][seed % 2])
    found, count = latent.best(K, problem, problem.starts(K))
    values = []
    for _ in range(25):
        wrong = torch.rand(problem.y.shape, generator=generator, dtype=F64) < 0.3
        noise = 10 ** (4 * torch.rand(1, generator=generator, dtype=F64) - 3)
        target = torch.where(wrong, 0.0, problem.y)
        start = torch.linalg.solve(K + noise * torch.eye(len(K), dtype=F64), target)
        mode = newton.find(K, problem, start)
        values.append(float(mode.evidence.log_marginal_likelihood))
    assert float(found.evidence.log_marginal_likelihood) > max(values) - 1e-6
    assert count >= 1


def test_number_of_modes_is_reported():
    _, problem, _ = robust_problem(1, 1.0, 0.1)
    x = torch.linspace(-1, 1, 14, dtype=F64)
    posteriors = [
        bg.GaussianProcess(
            gpytorch.kernels.RBFKernel(), likelihood=StudentT(df, 0.01), hyperparameters="fixed"
        ).fit(x, problem.y[:, 0])
        for df in (1.0, 1e6)
    ]
    assert posteriors[1].different_modes == [1]
    for posterior in posteriors:
        several = posterior.different_modes[0] > 1
        assert ("modes of the latent functions" in repr(posterior)) == several

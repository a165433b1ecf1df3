"""Tests of `bayesgen.models.gp.batched`.

A batch of small data sets is compared with a fit of each alone.
"""

import gpytorch
import pytest
import torch

import bayesgen as bg

F64 = torch.float64


KERNELS = [
    gpytorch.kernels.RBFKernel,
    lambda: gpytorch.kernels.MaternKernel(1.5),
    gpytorch.kernels.RQKernel,
]


def problems(B=6, n=30, d=2, C=None, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(B, n, d, generator=g, dtype=F64)
    waves = torch.sin(torch.linspace(3, 9, B, dtype=F64)[:, None] * x.sum(-1))
    if C is None:
        return x, waves + 0.2 * torch.randn(B, n, generator=g, dtype=F64)
    y = waves[..., None] * torch.linspace(1, 2, C, dtype=F64)
    return x, y + 0.2 * torch.randn(B, n, C, generator=g, dtype=F64)


@pytest.mark.parametrize("make", KERNELS)
@pytest.mark.parametrize("C", [None, 3])
def test_fixed_batch_equals_separate_fits(make, C):
    x, y = problems(C=C)
    kernel = gpytorch.kernels.ScaleKernel(make())
    kernel.outputscale, kernel.base_kernel.lengthscale = 0.7, 0.4
    gp = bg.GaussianProcess(kernel, noise=0.05, hyperparameters="fixed")
    many, new = gp.fit_batch(x, y), torch.rand(6, 4, 2, dtype=F64)
    for b in range(len(x)):
        one = gp.fit(x[b], y[b])
        for part in ("fit", "complexity", "effective_dimension"):
            torch.testing.assert_close(
                getattr(many.evidence, part)[b], getattr(one.evidence, part), rtol=1e-6, atol=1e-6
            )
        torch.testing.assert_close(many.mean(new)[b], one.mean(new[b]), rtol=1e-6, atol=1e-8)
        a, w = many.predict(new), one.predict(new[b])
        torch.testing.assert_close(a.stddev[b], w.stddev, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("make", KERNELS[:2])
def test_learnt_batch_reaches_evidence_of_separate_fits(make):
    x, y = problems(B=8, n=40)
    gp = bg.GaussianProcess(make())
    many = gp.fit_batch(x, y)
    assert many.converged.all()
    for b in range(len(x)):
        one = gp.fit(x[b], y[b])
        gap = many.evidence.log_marginal_likelihood[b] - one.evidence.log_marginal_likelihood
        # Where the data ask for no noise at all the evidence only creeps up to its end.
        assert gap > (-1e-4 if one.noise > 1e-6 else -0.1)
    settings = torch.stack([many.lengthscale, many.scale, many.noise], -1)
    kernel = gpytorch.kernels.ScaleKernel(make())
    for b in range(2):  # At a maximum no neighbour is better.
        for j in range(3):
            for factor in (0.97, 1.03):
                near = settings[b].clone()
                near[j] *= factor
                kernel.base_kernel.lengthscale, kernel.outputscale = near[0].item(), near[1].item()
                fixed = bg.GaussianProcess(kernel, noise=near[2].item(), hyperparameters="fixed")
                there = fixed.fit(x[b], y[b]).evidence.log_marginal_likelihood
                assert there <= many.evidence.log_marginal_likelihood[b] + 1e-6


def test_gradient_matches_differences_and_fisher_is_positive():
    from bayesgen.covariance.radial import profile_of
    from bayesgen.models.gp.batched import _Chunk
    from bayesgen.models.gp.gradient_search import Free

    x, y = problems(B=3, n=12, C=2)
    kernel = gpytorch.kernels.MaternKernel(2.5).double()
    one = torch.ones((), dtype=F64)
    problem = _Chunk(x, y, profile_of(kernel), kernel, Free(True, True, True), one, one)
    z = problem.start + 0.1
    found = problem.look(z, slice(None))
    for j in range(3):
        step = torch.zeros(3, dtype=F64)
        step[j] = 1e-5
        up, down = (problem.look(z + s * step, slice(None)).value for s in (1, -1))
        torch.testing.assert_close(found.gradient[:, j], (up - down) / 2e-5, rtol=1e-5, atol=1e-6)
    assert (torch.linalg.eigvalsh(found.fisher) > -1e-9).all()


def test_result_does_not_depend_on_chunk_size(monkeypatch):
    x, y = problems(B=7)
    whole = bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit_batch(x, y)
    monkeypatch.setattr("bayesgen.models.gp.batched._CPU", 2 * 30 * 30)
    heard = []
    parts = bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit_batch(
        x, y, progress=lambda done, *_: heard.append(done)
    )
    assert heard == [2, 4, 6, 7]
    torch.testing.assert_close(parts.noise, whole.noise, rtol=1e-8, atol=0)


def test_fixed_hyperparameters_are_kept():
    x, y = problems()
    many = bg.GaussianProcess(
        gpytorch.kernels.RBFKernel(), noise=0.1, hyperparameters=("kernel", "scale")
    ).fit_batch(x, y)
    torch.testing.assert_close(many.noise, torch.full((6,), 0.1, dtype=F64))
    kernel = gpytorch.kernels.RBFKernel()
    kernel.lengthscale = 0.5
    kernel.raw_lengthscale.requires_grad_(False)
    many = bg.GaussianProcess(kernel).fit_batch(x, y)
    torch.testing.assert_close(many.lengthscale, torch.full((6,), 0.5).double(), rtol=1e-6, atol=0)


def test_invalid_batches_raise():
    x, y = problems()
    gp = bg.GaussianProcess(gpytorch.kernels.RBFKernel())
    with pytest.raises(ValueError, match="y must have shape \\(6, 30\\)"):
        gp.fit_batch(x, y[:, :5])
    with pytest.raises(ValueError, match="none of them 0"):
        gp.fit_batch(x[:, :0], y[:, :0])
    with pytest.raises(ValueError, match="must be finite"):
        gp.fit_batch(x * float("nan"), y)
    with pytest.raises(ValueError, match="radial kernel"):
        bg.GaussianProcess(gpytorch.kernels.LinearKernel()).fit_batch(x, y)
    with pytest.raises(ValueError, match="prior mean of 0"):
        bg.GaussianProcess(gpytorch.kernels.RBFKernel(), mean=1.0).fit_batch(x, y)
    with pytest.raises(ValueError, match="zero throughout"):
        gp.fit_batch(x, y * 0)
    with pytest.raises(ValueError, match="x_new must have shape"):
        gp.fit_batch(x, y).mean(x[0])
    double = x.clone()
    double[:, 1] = double[:, 0]
    singular = bg.GaussianProcess(
        gpytorch.kernels.RBFKernel(), noise=1e-30, hyperparameters="fixed"
    )
    with pytest.raises(ValueError, match="a larger noise"):
        singular.fit_batch(double, y)

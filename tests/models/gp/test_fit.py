"""Tests of `bayesgen.models.gp.fit`."""

import pytest
import torch

from bayesgen import GaussianProcess, kernels
from tests.helpers import scaled_rbf

F64 = torch.float64


def test_batch_equals_loop_and_fixed_evaluation(regression):
    x, ys = regression
    gp = GaussianProcess(kernels.named("rbf"), tolerance=1e-7)
    whole = gp.fit(x, ys)
    for b in range(3):
        one = gp.fit(x, ys[b])
        gap = one.evidence.log_marginal_likelihood - whole.evidence.log_marginal_likelihood[b]
        assert abs(gap.item()) < 1e-4
        at = GaussianProcess(
            scaled_rbf(whole.lengthscale[b].item(), whole.scale[b].item()),
            whole.noise[b].item(),
            hyperparameters="fixed",
        ).fit(x, ys[b])
        for name in ("fit", "complexity", "effective_dimension"):
            torch.testing.assert_close(
                getattr(at.evidence, name), getattr(whole.evidence, name)[b], rtol=1e-8, atol=1e-8
            )
        torch.testing.assert_close(at.mean(x), whole.mean(x)[b], rtol=1e-6, atol=1e-8)


def test_frozen_or_unnamed_hyperparameters_are_kept(regression):
    x, ys = regression
    kernel = kernels.named("rbf").to(F64)
    kernel.lengthscale = torch.tensor(0.7, dtype=F64)
    kept = GaussianProcess(kernel, 0.02, hyperparameters=("scale",)).fit(x, ys)
    torch.testing.assert_close(kept.lengthscale, torch.full((3,), 0.7, dtype=F64))
    assert kept.noise.tolist() == [0.02] * 3
    assert len(set(kept.scale.tolist())) == 3
    kernel.raw_lengthscale.requires_grad_(False)
    frozen = GaussianProcess(kernel).fit(x, ys)
    torch.testing.assert_close(frozen.lengthscale, torch.full((3,), 0.7, dtype=F64))
    assert frozen.spectra == 1
    assert kernel.lengthscale.item() == 0.7
    interpolating = GaussianProcess(kernels.named("rbf"), 1e-6, hyperparameters=("kernel", "scale"))
    assert (interpolating.fit(x, ys).fitted() - ys).abs().max() < 1e-2


def test_frozen_outputscale_is_kept(regression):
    x, ys = regression
    kernel = scaled_rbf(0.5, 2.0)
    kernel.raw_outputscale.requires_grad_(False)
    posterior = GaussianProcess(kernel).fit(x, ys)
    torch.testing.assert_close(posterior.scale, torch.full((3,), 2.0, dtype=F64))
    assert len(set(posterior.noise.tolist())) == 3


def test_constant_noise_per_point_equals_one_number(regression):
    x, ys = regression
    point = GaussianProcess(
        scaled_rbf(), torch.full((40,), 0.1, dtype=F64), hyperparameters="fixed"
    )
    one = GaussianProcess(scaled_rbf(), 0.1, hyperparameters="fixed")
    a, b = point.fit(x, ys).evidence, one.fit(x, ys).evidence
    torch.testing.assert_close(a.fit, b.fit)
    torch.testing.assert_close(a.complexity, b.complexity)


def test_singular_covariance_reports_its_jitter():
    x = torch.zeros(30, 1, dtype=F64)
    y = torch.ones(30, dtype=F64)
    with pytest.warns(RuntimeWarning, match=r"a jitter of .* was added"):
        posterior = GaussianProcess(scaled_rbf(), 1e-18, hyperparameters="fixed").fit(x, y)
    assert posterior.evidence.jitter > 0
    assert "jitter" in repr(posterior.evidence)

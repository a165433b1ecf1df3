"""Tests of `bayesgen.models.gp.tiled_cholesky`."""

import gpytorch
import pytest
import torch

import bayesgen as bg


def test_exact_factorisation_follows_search(problem, monkeypatch):
    """Hyperparameters found are kept and their evidence is made exact, or a warning says why."""
    x, y = problem
    search = bg.GaussianProcess(gpytorch.kernels.RBFKernel(), engine="krylov").fit(x, y)
    gp = bg.GaussianProcess(gpytorch.kernels.RBFKernel(), engine="cholesky")
    found = gp.fit(x, y)
    assert torch.equal(found.scale, search.scale)
    assert found.evidence.method.startswith("exact, by Cholesky")
    for b in range(len(y)):
        kernel = gpytorch.kernels.ScaleKernel(found.kernels[b]).double()
        kernel.outputscale = found.scale[b]
        fixed = bg.GaussianProcess(kernel, found.noise[b], hyperparameters="fixed").fit(x, y[b])
        for name in ("log_marginal_likelihood", "complexity", "effective_dimension"):
            one, two = (getattr(p.evidence, name) for p in (found, fixed))
            assert float(one[b]) == pytest.approx(float(two), rel=1e-9, abs=1e-9)
        torch.testing.assert_close(found.mean(x[:3])[b], fixed.mean(x[:3]), rtol=1e-6, atol=1e-8)
    gap = found.evidence.log_marginal_likelihood - search.evidence.log_marginal_likelihood
    assert (gap.abs() <= 3 * search.evidence.error + 1e-6).all()

    def fails(*_):
        raise MemoryError("no more")

    monkeypatch.setattr("bayesgen.models.gp.tiled_cholesky.solvers.cholesky", fails)
    with pytest.warns(RuntimeWarning, match="ran out of memory .*: the evidence is that of"):
        kept = gp.fit(x, y)
    assert torch.equal(kept.evidence.fit, search.evidence.fit)

"""Tests of `bayesgen.models.search.landscape` and `bayesgen.models.search.identified`."""

import pytest
import torch
from gpytorch import kernels as gk

import bayesgen as bg
from bayesgen.models.search.identified import unidentified
from bayesgen.models.search.landscape import Hyperparameters

F64 = torch.float64
X = torch.linspace(0, 10, 60, dtype=F64)[:, None]


def rbf(lengthscale, **options):
    kernel = gk.RBFKernel(**options).double()
    kernel.lengthscale = torch.tensor(lengthscale, dtype=F64)
    return kernel


def scaled(kernel, variance):
    kernel = gk.ScaleKernel(kernel).double()
    kernel.outputscale = variance
    return kernel


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (rbf(0.01), "white noise at these inputs"),
        (scaled(rbf(1.0), 1.0) + scaled(rbf(0.02), 1.0), "RBF 2 is white noise"),
        (rbf(1e5), "constant at these inputs"),
        (rbf(80.0), "more than 5 times the range"),
        (scaled(rbf(1.0), 1.0) + scaled(rbf(1.0), 2.0), "are one at these inputs"),
        (scaled(rbf(1.0), 1.0) + scaled(rbf(2.0), 1e-9), "too small beside the noise"),
    ],
)
def test_what_is_not_identified_is_said(kernel, words):
    assert any(words in text for text in unidentified(kernel, X, 1.0, 0.1))


def test_irrelevant_column_and_unseen_period_are_said():
    x = torch.cat([X, torch.randn(60, 1, generator=torch.Generator().manual_seed(0), dtype=F64)], 1)
    kernel = rbf([[1.0, 500.0]], ard_num_dims=2)
    assert "column 1 of x" in unidentified(kernel, x, 1.0, 0.1)[0]
    periodic = gk.PeriodicKernel().double()
    periodic.period_length = 200.0
    assert any("longer than the range" in text for text in unidentified(periodic, X, 1.0, 0.1))


def test_identified_kernel_is_not_flagged():
    kernel = scaled(rbf(1.0), 1.0) + scaled(rbf(4.0), 1.0)
    assert unidentified(kernel, X, 1.0, 0.1) == []
    # Both correlations are nearly 1, but their differences are large beside the noise.
    smooth, line = scaled(rbf(40.0), 700.0), scaled(gk.PolynomialKernel(power=1), 1.0)
    assert not any("are one" in text for text in unidentified(smooth + line, X + 10, 1.0, 0.01))


def test_hyperparameters_print_with_units_and_notes():
    found = Hyperparameters(
        {"RBF.lengthscale": torch.tensor([1.0, 2.0]), "noise": 0.25},
        {"noise": "units of y²"},
        {"noise": True},
        ["the term RBF is a constant"],
    )
    lines = str(found).splitlines()
    assert lines[0].split() == ["RBF.lengthscale", "[1,", "2]"]
    assert lines[1].endswith("units of y² (at bound)")
    assert lines[2] == "Note: the term RBF is a constant."
    assert found.at_bound == {"RBF.lengthscale": False, "noise": True}


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_posterior_lists_hyperparameters_and_modes(likelihood):
    kernel = gk.ScaleKernel(gk.RBFKernel()) + gk.ScaleKernel(gk.LinearKernel())
    wave = torch.sin(2 * X[:, 0])
    wave = wave + 0.1 * torch.randn(60, generator=torch.Generator().manual_seed(0), dtype=F64)
    y = wave if likelihood == "gaussian" else (wave > 0).double()
    posterior = bg.GaussianProcess(kernel, likelihood=likelihood, starts=2).fit(X, y)
    found, modes = posterior.hyperparameters, posterior.modes
    assert list(found)[:2] == ["RBF.outputscale", "RBF.lengthscale"]
    assert found["RBF.lengthscale"] == pytest.approx(
        posterior.kernels[0].kernels[0].base_kernel.lengthscale.item()
    )
    assert modes.log_marginal_likelihood.is_monotonic_decreasing
    best = float(posterior.evidence.log_marginal_likelihood)
    assert modes.log_marginal_likelihood[0] == pytest.approx(best, abs=1e-3)
    assert modes.gradient[0] < 1e-3
    assert set(found) <= set(modes.columns)


def test_batch_names_one_task():
    y = torch.stack([torch.sin(X), torch.cos(3 * X)])
    posterior = bg.GaussianProcess(gk.RBFKernel()).fit(X, y)
    with pytest.raises(ValueError, match=r"take posterior.task\(0\).modes"):
        _ = posterior.modes
    assert posterior.task(1).hyperparameters["RBF.lengthscale"] == pytest.approx(
        float(posterior.lengthscale[1])
    )
    fixed = bg.GaussianProcess(gk.RBFKernel(), 0.1, hyperparameters="fixed").fit(X, y[0])
    assert len(fixed.modes) == 1

"""Tests of `bayesgen.models.gp.components`: additive parts of a Gaussian process."""

import gpytorch
import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

import bayesgen as bg
from bayesgen.kernels import parsed
from bayesgen.models.gp.components import expanded, sentence

T = torch.linspace(0, 6, 50, dtype=torch.float64)
Y = 0.5 * T + torch.sin(2 * torch.pi * T) + 0.1 * torch.cos(91 * T)
NEW = torch.linspace(-1, 7, 9, dtype=torch.float64)


@pytest.mark.parametrize("text", ["linear + periodic", "(linear + rbf) * periodic + rq", "rbf"])
def test_means_of_the_parts_sum_to_the_posterior_mean(text):
    posterior = bg.GaussianProcess(parsed(text), noise=0.01, starts=1).fit(T, Y)
    parts = posterior.components(NEW)
    total = sum(part.mean for part in parts.values())
    torch.testing.assert_close(total, posterior.mean(NEW), rtol=1e-8, atol=1e-8)
    if len(parts) == 1:
        torch.testing.assert_close(
            next(iter(parts.values())).stddev, posterior.predict(NEW, latent=True).stddev
        )


def test_a_part_has_the_conditional_distribution_of_the_joint_normal():
    kernel = parsed("rbf + linear")
    posterior = bg.GaussianProcess(kernel, noise=0.2, hyperparameters="fixed").fit(T, Y)
    (one, two) = (k.double() for k in kernel.kernels)
    x, new = T[:, None], NEW[:, None]
    with torch.no_grad():
        A = sum(k(x).to_dense() for k in (one, two)) + 0.2 * torch.eye(50, dtype=torch.float64)
        joint = torch.zeros(59, 59, dtype=torch.float64)
        joint[:50, :50], joint[50:, 50:] = A, one(new).to_dense()
        joint[50:, :50] = one(new, x).to_dense()
        joint[:50, 50:] = joint[50:, :50].T
    solved = torch.linalg.solve(A, joint[:50, 50:])
    mean = solved.T @ Y
    variance = joint[50:, 50:].diagonal() - (joint[50:, :50] @ solved).diagonal()
    found = posterior.components(NEW)["RBF"]
    torch.testing.assert_close(found.mean, mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.variance, variance, rtol=1e-5, atol=1e-7)
    assert MultivariateNormal(torch.zeros(50, dtype=torch.float64), A).log_prob(Y).isfinite()


def test_products_of_sums_are_multiplied_out():
    kernel = parsed("(linear + rbf) * periodic").double()
    x = NEW[:, None]
    with torch.no_grad():
        total = sum(term.covariance(x, x) for term in expanded(kernel))
        np.testing.assert_allclose(total, kernel(x).to_dense(), rtol=1e-6)
        diagonal = sum(term.diagonal(x) for term in expanded(kernel))
        np.testing.assert_allclose(diagonal, kernel(x, diag=True), rtol=1e-6)


def test_sentences_say_periods_and_length_scales():
    kernel = parsed("periodic * rbf + linear + constant").double()
    wave = kernel.kernels[0].base_kernel
    wave.kernels[0].period_length, wave.kernels[1].lengthscale = 1.0, 60.0
    said = [sentence(term) for term in expanded(kernel)]
    assert said == [
        "a period of 1 whose shape changes over 60",
        "a straight line",
        "a constant",
    ]
    still = sentence(next(expanded(kernel)), span=5.0)
    assert still == "a period of 1 whose shape does not change"
    smooth = next(expanded(kernel.kernels[0].base_kernel.kernels[1]))
    hardly = "a function that hardly changes over the range of the inputs"
    assert sentence(smooth, span=5.0) == hardly
    posterior = bg.GaussianProcess(kernel, noise=0.1, hyperparameters="fixed").fit(T, Y)
    assert "Periodic × RBF: a period of 1 whose shape" in repr(posterior.components(NEW))


def test_several_outputs_and_batches():
    both = torch.stack([Y, -Y], 1)
    kernel = parsed("rbf + linear")
    posterior = bg.GaussianProcess(kernel, noise=0.1, hyperparameters="fixed").fit(T, both)
    parts = posterior.components(NEW)
    assert parts["RBF"].mean.shape == (9, 2)
    with pytest.raises(ValueError, match="must be of one output"):
        bg.plots.components(parts)
    tasks = bg.GaussianProcess(kernel, noise=0.1, hyperparameters="fixed").fit(T, both.T[..., None])
    with pytest.raises(ValueError, match=r"posterior.task\(0\).components"):
        tasks.components(NEW)
    assert tasks.task(1).components(NEW)["RBF"].mean.shape == (9, 1)


def test_a_trend_and_a_season_are_told_apart():
    model = bg.GaussianProcess(parsed("linear + periodic"), seed=1)
    parts = model.fit(T, Y).components(T)
    trend = parts["Linear"].mean
    slope = float((trend[-1] - trend[0]) / (T[-1] - T[0]))
    assert slope == pytest.approx(0.5, abs=0.2)
    assert parts.sentences["Periodic"] in ("a period of 1", "a period of 0.999")
    assert "period" in parts.sentences["Periodic"]
    figure = bg.plots.components(parts)
    assert len(figure.axes) == 2
    with pytest.raises(ValueError, match="column must be in 0..0"):
        bg.plots.components(parts, column=1)


def test_a_kernel_on_some_columns_is_one_part():
    x = torch.randn(20, 2, dtype=torch.float64)
    kernel = gpytorch.kernels.RBFKernel(active_dims=(0,)) + gpytorch.kernels.RBFKernel(
        active_dims=(1,)
    )
    posterior = bg.GaussianProcess(kernel, noise=0.1, hyperparameters="fixed").fit(x, x[:, 0])
    parts = posterior.components(x)
    assert len(parts) == 2
    torch.testing.assert_close(sum(p.mean for p in parts.values()), posterior.mean(x))


@pytest.mark.parametrize("product", [False, True])
def test_terms_of_one_kernel_module_are_counted_each(product):
    shared = parsed("rbf")
    one, two = (gpytorch.kernels.ScaleKernel(shared) for _ in range(2))
    kernel = one * parsed("linear") + two * parsed("linear") if product else one + two
    posterior = bg.GaussianProcess(kernel, noise=0.1, hyperparameters="fixed").fit(T, Y)
    parts = posterior.components(NEW)
    assert len(parts) == 2
    total = sum(p.mean for p in parts.values()) + parts.prior_mean
    torch.testing.assert_close(total, posterior.mean(NEW))


def test_sentences_name_the_columns_of_a_term():
    x = torch.randn(20, 3, dtype=torch.float64)
    text = "rbf(column=1) + rbf(column=0)*linear(column=2) + rbf + constant"
    model = bg.GaussianProcess(parsed(text, 3).double(), noise=0.1, hyperparameters="fixed")
    parts = model.fit(x, x[:, 0]).components(x)
    said = list(parts.sentences.values())
    assert said[0] == "a smooth function that changes over 0.693, in column 1"
    assert said[1].endswith("in columns 0 and 2")
    assert said[2] == "a smooth function that changes over 0.693"
    names = list(parts)
    assert [parts.columns.get(name) for name in names] == [(1,), (0, 2), None, ()]


def test_parts_on_several_columns_sum_to_the_mean():
    x = torch.randn(20, 3, dtype=torch.float64)
    text = "rbf(column=1) + rbf(column=0)*linear(column=2) + rbf + constant"
    model = bg.GaussianProcess(parsed(text, 3).double(), noise=0.1, hyperparameters="fixed")
    parts = model.fit(x, x[:, 0]).components(x)
    torch.testing.assert_close(sum(p.mean for p in parts.values()), model.fit(x, x[:, 0]).mean(x))

"""Tests of `bayesgen.select.candidates`."""

import gpytorch
import torch

from bayesgen.select.candidates import candidates, listed, model

X = torch.rand(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_candidates_of_several_inputs_include_ard():
    names = candidates(X)
    assert isinstance(names["GP RBF, ARD"].kernel, gpytorch.kernels.RBFKernel)
    assert "GP RBF, ARD" not in candidates(X[:, :1])


def test_listed_models_are_named_as_they_are_written():
    parts = [("linear", "", ""), ("polynomial", 3, "best"), ("gp", "matern32", "ard")]
    found = listed(parts, X)
    assert list(found) == ["linear", "polynomial:3:best", "gp:matern32:ard"]
    kernel = found["gp:matern32:ard"].kernel
    assert (kernel.nu, kernel.ard_num_dims) == (1.5, 2)


def test_the_best_order_is_chosen_by_the_evidence():
    x = torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None]
    y = x[:, 0] ** 3 + 0.01 * torch.sin(91 * x[:, 0])
    assert int(model("polynomial", 8, "best", x, "gaussian").fit(x, y).order) == 3
    assert int(model("polynomial", 8, "", x, "gaussian").fit(x, y).order) == 8


def test_models_take_a_likelihood():
    labels = (X[:, 0] > 0.5).long()
    for kind, setting, form in (("linear", "", ""), ("fourier", 2, "decaying"), ("gp", "rbf", "")):
        posterior = model(kind, setting, form, X, "bernoulli").fit(X, labels)
        assert float(posterior.evidence.log_marginal_likelihood) < 0

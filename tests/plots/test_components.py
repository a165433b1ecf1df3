"""Tests of `bayesgen.plots.components`: additive parts of a Gaussian process."""

import numpy as np
import torch

import bayesgen as bg


def test_each_part_has_a_panel_with_its_sentence():
    x = torch.rand(20, 2, dtype=torch.float64)
    kernel = bg.kernels.parsed("linear(column=0) + rbf(column=1)", 2)
    posterior = bg.GaussianProcess(kernel, noise=0.1, hyperparameters="fixed").fit(x, x[:, 0])
    parts = posterior.components(x)
    figure = bg.plots.components(parts, column=1)
    assert [axes.get_title().split(":")[0] for axes in figure.axes] == list(parts)
    assert figure.axes[-1].get_xlabel() == "x1"
    order = np.argsort(x[:, 1].numpy())
    drawn = figure.axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(drawn, parts["Linear"].mean.numpy()[order])

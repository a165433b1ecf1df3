"""Tests of `bayesgen.plots.components`: additive parts of a Gaussian process."""

import numpy as np
import pytest
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
    drawn = figure.axes[1].lines[0].get_ydata()
    np.testing.assert_allclose(drawn, parts["RBF"].mean.numpy()[order])


def test_each_part_is_drawn_along_its_own_column():
    x = torch.rand(20, 3, dtype=torch.float64)
    text = "rbf(column=1) + rbf(column=0)*linear(column=2) + rbf + constant"
    kernel = bg.kernels.parsed(text, 3)
    posterior = bg.GaussianProcess(kernel, noise=0.1, hyperparameters="fixed").fit(x, x[:, 0])
    parts = posterior.components(x)
    own = bg.plots.components(parts).axes
    assert [axes.get_xlabel() for axes in own] == ["x1", "x0", "x0", "x0"]
    assert [bool(axes.containers) for axes in own] == [False, True, True, False]
    # Parts of other columns too are drawn as points.
    panels = bg.plots.components(parts, column=0).axes
    assert [bool(axes.containers) for axes in panels] == [True, True, True, False]


@pytest.mark.parametrize("parts", [{}, None, 3])
def test_other_things_than_components_are_refused(parts):
    with pytest.raises(TypeError, match="parts must be a result of posterior.components"):
        bg.plots.components(parts)

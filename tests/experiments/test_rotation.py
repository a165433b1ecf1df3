"""Tests of `bayesgen.experiments.rotation`."""

import numpy as np

import bayesgen as bg


def test_deep_kernel_learns_similarity_of_angles():
    result = bg.experiments.rotation(train=300, test=150, steps=40)
    fixed, deep = result.test_rmse.values
    assert deep < 0.7 * fixed
    assert list(result.excludes.values) == ["", "features"]
    # Images of one angle correlate under the learned prior, not under the fixed one.
    near = np.abs(np.subtract.outer(result.shown.values, result.shown.values)) < 10
    np.fill_diagonal(near, False)
    mean = [c.values[near].mean() - c.values[~near].mean() for c in result.correlation]
    assert mean[1] > mean[0] + 0.1
    assert len(bg.experiments.rotation.plot(result).axes) == 5

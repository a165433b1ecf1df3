"""Tests of `bayesgen.models.network.polish`."""

import numpy as np
import pytest
import torch

from bayesgen.models.network import polish as polishing
from bayesgen.models.network.mode import find_mode
from bayesgen.models.network.polish import hessian, polish
from tests.models.network.test_mode import objective
from tests.networks import kinds


@pytest.mark.parametrize("kind", ["plain", "tied", "LSTM", "unused layer"])
def test_the_hessian_matches_differences_of_the_gradient(kind):
    made = objective(kinds.FREE[kind](), batch=40)
    point = made.point
    H = hessian(made, point)
    step = 1e-6
    for k in range(0, len(point), 5):
        ahead, back = point.copy(), point.copy()
        ahead[k] += step
        back[k] -= step
        want = (made(ahead)[1] - made(back)[1]) / (2 * step)
        np.testing.assert_allclose(H[:, k], want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("largest", [1500, 3], ids=["matrix", "products"])
def test_a_mode_is_reached_to_rounding(largest, monkeypatch):
    monkeypatch.setattr(polishing, "LARGEST", largest)
    made = objective(kinds.base())
    first = find_mode(made, steps=300, pairs=10, tolerance=1e-7)
    point, gain = polish(made)
    value, slope = made(point)
    assert np.linalg.norm(slope) < 1e-5 < first.gradient_norm
    assert abs(gain) < 1e-10
    assert -value >= first.value
    assert np.array_equal(made.point, point)
    assert torch.equal(made.weights[0], made.run.net[0].weight)

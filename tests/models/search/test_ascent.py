"""Tests of `bayesgen.models.ascent`."""

import numpy as np
import pytest

from bayesgen.errors import NotConvergedError
from bayesgen.models.ascent import ascend

PEAK = np.array([1.0, -2.0, 3.0])
FREE = [(None, None)] * 3


def hill(z):
    """A concave function with its maximum at PEAK, and its gradient."""
    A = np.diag([1.0, 4.0, 0.5]) + 0.2
    return -0.5 * (z - PEAK) @ A @ (z - PEAK), -A @ (z - PEAK)


def test_maximum_of_concave_function_is_found():
    heard = []
    found = ascend(hill, np.zeros(3), np.ones(3, bool), FREE, progress=lambda *a: heard.append(a))
    np.testing.assert_allclose(found, PEAK, atol=1e-4)
    assert [done for done, _, _ in heard] == list(range(1, len(heard) + 1))
    assert all(done < expected for done, expected, _ in heard)


def test_parameters_that_are_not_learnt_stay():
    start = np.array([0.0, 5.0, 0.0])
    found = ascend(hill, start, np.array([True, False, True]), FREE)
    assert found[1] == 5.0
    _, gradient = hill(found)
    np.testing.assert_allclose(gradient[[0, 2]], 0, atol=1e-4)
    kept = ascend(hill, start, np.zeros(3, bool), FREE)
    np.testing.assert_array_equal(kept, start)


def test_bounds_are_respected():
    bounds = [(None, 0.5), (None, None), (None, None)]
    found = ascend(hill, np.zeros(3), np.ones(3, bool), bounds)
    assert found[0] == 0.5
    np.testing.assert_allclose(hill(found)[1][1:], 0, atol=1e-4)


@pytest.mark.parametrize("error", [ValueError, NotConvergedError])
def test_places_without_a_value_are_stepped_back_from(error):
    def with_hole(z):
        if z[0] > 1.2:
            raise error("no value here")
        return hill(z)

    found = ascend(with_hole, np.array([-30.0, 0.0, 0.0]), np.ones(3, bool), FREE)
    np.testing.assert_allclose(found, PEAK, atol=1e-3)

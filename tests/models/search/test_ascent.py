"""Tests of `bayesgen.models.search.ascent`."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bayesgen.models.search.ascent import Box, Climb, Stop

PEAK = np.array([1.0, -2.0, 3.0])
WIDE = Box(np.ones(3, bool), np.full(3, -50.0), np.full(3, 50.0))


def hill(z):
    """A concave function with its maximum at PEAK, and its gradient."""
    A = np.diag([1.0, 4.0, 0.5]) + 0.2
    return -0.5 * (z - PEAK) @ A @ (z - PEAK), -A @ (z - PEAK)


def valley(z):
    """The negative Rosenbrock function: a curved ridge, with its maximum 0 at (1, 1)."""
    a, b = z
    value = -((1 - a) ** 2) - 100 * (b - a**2) ** 2
    return value, np.array([2 * (1 - a) + 400 * a * (b - a**2), -200 * (b - a**2)])


def climbed(function, start, box, stop=None, **options):
    stop = stop or Stop()
    climb = Climb(start, *function(start), box, **options)
    while (z := climb.proposal(stop)) is not None:
        climb.tell(*function(z))
    return climb


def test_maximum_of_concave_function_is_found():
    climb = climbed(hill, np.zeros(3), WIDE)
    np.testing.assert_allclose(climb.point, PEAK, atol=1e-3)
    assert climb.steepest < 1e-4
    assert climb.ended


def test_curved_ridge_is_followed_to_its_end():
    box = Box(np.ones(2, bool), np.full(2, -5.0), np.full(2, 5.0))
    climb = climbed(valley, np.array([-1.2, 1.0]), box)
    np.testing.assert_allclose(climb.point, 1, atol=1e-4)
    assert climb.evaluations < 150


def test_parameters_that_are_not_learnt_stay():
    learn = np.array([True, False, True])
    climb = climbed(hill, np.array([0.0, 5.0, 0.0]), Box(learn, WIDE.low, WIDE.high))
    assert climb.point[1] == 5.0
    np.testing.assert_allclose(climb.gradient[[0, 2]], 0, atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-2, 2), min_size=3, max_size=3), st.floats(-1, 1), st.floats(0.1, 2))
def test_box_is_respected_and_gradient_vanishes_inside(start, low, width):
    box = Box(np.ones(3, bool), np.full(3, low), np.full(3, low + width))
    climb = climbed(hill, box.clip(np.array(start)), box)
    assert (climb.point >= box.low).all()
    assert (climb.point <= box.high).all()
    assert climb.steepest < 1e-4  # the projected gradient
    np.testing.assert_array_equal(box.at_bound(climb.point), (climb.point <= low) | (
        climb.point >= low + width))  # fmt: skip


def test_places_without_a_value_are_stepped_back_from():
    def with_hole(z):
        return (math.nan, np.full(3, math.nan)) if z[0] > 1.2 else hill(z)

    climb = climbed(with_hole, np.array([-30.0, 0.0, 0.0]), WIDE)
    np.testing.assert_allclose(climb.point, PEAK, atol=1e-3)


def test_exact_curvature_needs_one_step():
    curvature = np.diag([1.0, 4.0, 0.5]) + 0.2
    near = PEAK + np.array([0.1, 0.1, -0.1])
    climb = climbed(hill, near, WIDE, curvature=curvature)
    assert climb.evaluations == 2


@pytest.mark.parametrize("stop", [Stop(evaluations=3), Stop(gain=0.5), Stop(gradient=5.0)])
def test_climb_stops_early(stop):
    climb = climbed(hill, np.full(3, 20.0), WIDE, stop)
    assert climb.evaluations <= climbed(hill, np.full(3, 20.0), WIDE).evaluations
    assert climb.value >= hill(np.full(3, 20.0))[0]

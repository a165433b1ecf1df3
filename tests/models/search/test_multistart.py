"""Tests of `bayesgen.models.search.multistart`."""

import numpy as np
import pytest

from bayesgen.models.search.ascent import Box, Stop
from bayesgen.models.search.multistart import Rung, search

BOX = Box(np.ones(2, bool), np.full(2, -10.0), np.full(2, 10.0))


class Hills:
    """Two hills of unit width in the first coordinate; a ridge along the second one."""

    size = 50

    def __init__(self, hole=None):
        self.hole = hole

    def _one(self, z):
        if self.hole is not None and z[0] < self.hole:
            return np.nan, np.full(2, np.nan)
        tops = ((-4.0, 3.0), (4.0, 5.0))
        each = [h * np.exp(-0.5 * (z[0] - m) ** 2) for m, h in tops]
        slope = sum(-e * (z[0] - m) for e, (m, _) in zip(each, tops, strict=True))
        return sum(each), np.array([slope, 0.0])

    def __call__(self, z):
        values, gradients = zip(*(self._one(one) for one in z), strict=True)
        return np.array(values), np.stack(gradients)

    def values(self, z):
        return self(z)[0]

    def curvatures(self, z):
        return None


def starts(*firsts):
    return [np.array([first, second]) for second, first in enumerate(firsts)]


def test_modes_are_found_counted_and_joined_along_a_ridge():
    modes = search(starts(-5, 3, -3, 5, 4.5), [], [Rung(Hills(), 5, Stop())], BOX)
    assert [round(m.value, 3) for m in modes] == [5.0, 3.0]
    assert [m.starts for m in modes] == [3, 2]
    assert modes[0].steepest < 1e-3


def test_kept_start_is_climbed_besides_the_candidates():
    rungs = [Rung(Hills(), 1, Stop(evaluations=3)), Rung(Hills(), 2, Stop())]
    modes = search(starts(-4.2), [np.array([3.5, 0.0])], rungs, BOX)
    assert modes[0].value == pytest.approx(5.0, abs=1e-6)


def test_starts_without_a_value_are_left_out():
    modes = search(starts(-5, -4, 3), [], [Rung(Hills(hole=0.0), 3, Stop())], BOX)
    assert len(modes) == 1
    with pytest.raises(ValueError, match="not finite at any start"):
        search(starts(-5, -4), [], [Rung(Hills(hole=0.0), 2, Stop())], BOX)

"""Tests of `bayesgen._internal.random_state`."""

import random

import numpy as np
import pytest
import torch

from bayesgen._internal.random_state import kept, snapshot

CPU = torch.device("cpu")
DRAWS = (random.random, lambda: np.random.rand(), lambda: torch.rand(()))  # noqa: NPY002


@pytest.mark.parametrize("draw", DRAWS, ids=["python", "numpy", "torch"])
def test_states_are_restored_also_after_an_exception(draw):
    before = snapshot(CPU)
    with kept([CPU]):
        draw()
        assert snapshot(CPU) != before
    assert snapshot(CPU) == before

    def fail():
        with kept([CPU]):
            draw()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert snapshot(CPU) == before

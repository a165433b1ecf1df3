"""Tests of `bayesgen.data.dataset`."""

import gzip
import numpy as np
import pytest
import torch
from bayesgen import data
from bayesgen.data import loading


def test_restrict_keeps_and_renumbers_classes():
    pair = data.restrict(data.load(), (8, 3))
    assert pair.classes == ("8", "3")
    assert set(pair.y_train.tolist()) == {0, 1}
    assert len(pair.x_train) == len(pair.y_train) < 300
    with pytest.raises(ValueError, match="two or more different labels"):
        data.restrict(pair, (1, 1))

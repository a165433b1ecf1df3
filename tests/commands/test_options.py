"""Tests of `bayesgen.commands.options`."""

import pytest
import torch

from bayesgen import data
from bayesgen.commands.options import parse_groups


def test_groups_are_parsed_and_merged():
    assert parse_groups("0,1/2") == [[0, 1], [2]]
    digits = data.load("digits")
    two = data.merge(digits, ([0, 2, 4, 6, 8], [1, 3, 5, 7, 9]))
    assert torch.equal(two.y_train, digits.y_train % 2)
    with pytest.raises(ValueError, match="two or more different labels"):
        data.merge(digits, ([0, 1], [1, 2]))

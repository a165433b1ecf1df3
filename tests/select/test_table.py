"""Tests of `bayesgen.select.table`."""

import gpytorch
import pandas as pd
import pytest
import torch

from bayesgen import select

F64 = torch.float64


def data(n=30):
    x = torch.linspace(-1, 1, n, dtype=F64)
    return x, torch.sin(4 * x) + 0.1 * torch.cos(57 * x)


def frame(n=25):
    x, y = data(n)
    return pd.DataFrame({"x": x.numpy(), "z": x.numpy() ** 2, "y": 100 + 5 * y.numpy()})


def test_predictions_are_in_units_of_table():
    selection = select.select(select.from_frame(frame()[["x", "y"]], "y"))
    best = selection.ranking.index[0]
    curve = select.table.profile(selection, best, 0)
    assert curve["mean"].between(85, 115).all()
    assert (curve.low < curve["mean"]).all()
    assert curve.x.min() == pytest.approx(-1)


def test_candidates_of_several_inputs_include_ard():
    x = torch.rand(20, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    names = select.table.candidates(x)
    assert isinstance(names["GP RBF, ARD"].kernel, gpytorch.kernels.RBFKernel)

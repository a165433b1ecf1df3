"""Tests of `bayesgen.select.predictions`."""

import numpy as np
import pandas as pd
import pytest
import torch
from gpytorch.kernels import RBFKernel
from scipy import stats

import bayesgen as bg
from bayesgen.select import table as tables
from bayesgen.select.predictions import predictions

F64 = torch.float64


def waves(n=40):
    x = torch.linspace(-1, 1, n, dtype=F64)
    return x, torch.sin(3 * x) + 0.1 * torch.cos(57 * x)


def test_predictions_are_in_the_units_of_the_table():
    x, y = waves()
    frame = pd.DataFrame({"x": 10 + 5 * x.numpy(), "y": 100 + 20 * y.numpy()})
    table = tables.from_frame(frame, "y")
    direct = bg.Polynomial(5, kind="legendre").fit(table.x, table.y)
    found = predictions(direct, table.x, 0.9, table.columns)
    assert np.abs(found["mean"] - frame.y).max() < 10
    normal = stats.norm(found["mean"], found.sd)
    np.testing.assert_allclose(found.lower, normal.ppf(0.05), rtol=1e-6)
    np.testing.assert_allclose(found.upper, normal.ppf(0.95), rtol=1e-6)
    raw = predictions(direct, table.x, 0.9)
    np.testing.assert_allclose(raw.sd * frame.y.std(ddof=0), found.sd)


@pytest.mark.parametrize("targets", ["labels", "one-hot"])
def test_probabilities_of_classes_sum_to_one(targets):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(60, 2, generator=g, dtype=F64)
    kind = np.where(x[:, 0] > 0.3, "c", np.where(x[:, 1] > 0, "a", "b"))
    table = tables.from_frame(pd.DataFrame({"u": x[:, 0], "v": x[:, 1], "kind": kind}), "kind")

    def models(_, likelihood):
        return {"gp": bg.GaussianProcess(RBFKernel(), likelihood=likelihood)}

    selection = tables.select(table, models=models, targets=targets)
    found = predictions(selection.posteriors["gp"], table.x, columns=table.columns)
    np.testing.assert_allclose(found[["p(a)", "p(b)", "p(c)"]].sum(axis=1), 1, atol=1e-6)
    assert (found.label == kind).mean() > 0.8


def test_several_outputs_have_columns_of_their_own():
    x, y = waves()
    posterior = bg.Polynomial(3).fit(x, torch.stack([y, -y], 1))
    found = predictions(posterior, x[:3, None])
    assert {"mean0", "mean1", "sd0", "upper1"} <= set(found)


def test_a_batch_of_tasks_raises():
    x, y = waves()
    posterior = bg.Polynomial(3).fit(x, torch.stack([y, -y])[:, :, None])
    with pytest.raises(ValueError, match="the model must be of one task, it is of 2"):
        predictions(posterior, x[:, None])

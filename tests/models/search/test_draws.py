"""Tests of `bayesgen.models.search.draws`, `bayesgen.models.search.inputs`,
`bayesgen.models.search.periodogram`, `bayesgen.models.search.space` and
`bayesgen.models.search.subset`."""

import gpytorch
import numpy as np
import pytest
import torch
from gpytorch import kernels as gk

from bayesgen.covariance.gram import gram
from bayesgen.kernels.parameters import Coordinates
from bayesgen.models.search.draws import Draws
from bayesgen.models.search.inputs import InputScales
from bayesgen.models.search.periodogram import periods
from bayesgen.models.search.space import kernel_box
from bayesgen.models.search.subset import subset

F64 = torch.float64


def series(n=200, unit=1.0):
    x = torch.linspace(0, 30, n, dtype=F64)[:, None] * unit
    y = torch.sin(2 * torch.pi * x / (4.3 * unit)) + 0.05 * x / unit
    return x, y[None]


def draws(kernel, x, y, count=200, seed=0):
    kernel = kernel.double()
    coordinates = Coordinates(kernel, x.shape[1])
    theta = coordinates.read(kernel).numpy()
    made = Draws(coordinates, theta, InputScales(x, y), 1.0, seed)
    return coordinates, made.sample(count)


def test_periods_come_from_the_peaks_of_the_periodogram():
    x, y = series()
    found, weights = periods(x[:, 0].numpy(), y[0].numpy())
    assert found[weights.argmax()] == pytest.approx(4.3, rel=0.05)
    assert weights.sum() == pytest.approx(1)
    _, z = draws(gk.PeriodicKernel(), x, y)
    assert np.mean(np.abs(np.exp(z[:, 1]) / 4.3 - 1) < 0.1) > 0.1
    none, _ = periods(np.zeros(20), np.ones((20, 1)))
    assert len(none) == 0


def test_lengthscales_cover_the_range_of_the_inputs():
    x, y = series()
    _, z = draws(gk.RBFKernel(), x, y)
    assert np.exp(z.min()) == pytest.approx(30 / 199, rel=0.3)
    assert np.exp(z.max()) == pytest.approx(90, rel=0.3)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_draws_scale_with_the_unit_of_the_inputs(unit):
    kernel = gk.ScaleKernel(gk.RBFKernel()) + gk.ScaleKernel(gk.PeriodicKernel())
    plain, z = draws(kernel, *series())
    _, scaled = draws(kernel, *series(unit=unit))
    roles = {p.role: p.where for p in plain.parameters}
    shift = scaled - z
    np.testing.assert_allclose(shift[:, roles["length-scale"]], np.log(unit), atol=1e-6)
    np.testing.assert_allclose(shift[:, roles["period"]], np.log(unit), atol=1e-6)
    np.testing.assert_allclose(shift[:, roles["shape"]], 0, atol=1e-9)


def test_draws_are_deterministic_and_leave_the_random_state():
    kernel = gk.RBFKernel(lengthscale_prior=gpytorch.priors.GammaPrior(3.0, 600.0))
    state = torch.random.get_rng_state()
    _, first = draws(kernel, *series())
    assert torch.equal(state, torch.random.get_rng_state())
    _, again = draws(kernel, *series())
    np.testing.assert_array_equal(first, again)
    # The prior has a mean of 0.005, far below all distances.
    assert 0.3 < np.mean(np.exp(first) < 0.05) < 0.7


def test_box_holds_constraints_and_every_draw_is_in_its_natural_range():
    interval = gpytorch.constraints.Interval(0.5, 2.0)
    kernel = (gk.RBFKernel(lengthscale_constraint=interval) + gk.LinearKernel()).double()
    x, y = series()
    low, high = kernel_box(gram(kernel, x).coordinates, InputScales(x, y), 1.0)
    assert np.exp([low[0], high[0]]) == pytest.approx([0.5, 2.0])
    assert np.isfinite(low).all()
    assert np.isfinite(high).all()


def test_nearest_distance_ignores_duplicates():
    x = torch.tensor([[0.0], [0.0], [1.0], [1.0], [2.0]], dtype=F64)
    scales = InputScales(x)
    assert scales.nearest((0,)) == 1.0
    assert scales.diameter((0,)) == 2.0
    same = InputScales(torch.ones(5, 2, dtype=F64))
    assert same.nearest((0, 1)) > 0


def test_subset_is_of_the_right_size_and_unique():
    x = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0))
    rows = subset(x, 120, np.random.default_rng(0))
    assert len(rows) == len(rows.unique()) == 120
    assert subset(x[:140], 120, np.random.default_rng(0)) is None

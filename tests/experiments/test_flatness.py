"""Tests of `bayesgen.experiments.flatness` and `bayesgen.plots.flatness`."""

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from bayesgen import experiments, networks
from bayesgen.experiments.complexity_measures import MeasureSettings
from bayesgen.experiments.flatness import kendall, reparametrised

SMALL = MeasureSettings(probes=2, steps=4, draws=4, dimensions=(10,), compression_steps=4)
FEW = {"train": 40, "test": 60, "measures": SMALL, "seeds": 2}


@pytest.fixture(scope="module")
def result():
    return experiments.flatness(
        "digits", "mlp", widths=[3, 12], levels=[0.0, 0.4], epochs=300, resamples=50, **FEW
    )


def test_reparametrisation_changes_flatness_and_not_the_function(result):
    assert float(result.output_difference) < 1e-5
    moved = result.reparametrised
    ratio = moved.sel(state="after") / moved.sel(state="before")
    for name in ("N_eff", "top eigenvalue", "trace"):
        assert abs(float(ratio.sel(measure=name)) - 1) > 0.05
    assert not bool(result.invariant.sel(measure="−log evidence"))
    assert not bool(result.invariant.sel(measure="KL"))
    assert bool(result.invariant.sel(measure="compressed size"))


def test_gap_is_that_of_corrupted_labels(result):
    level = result.level
    noisy = (1 - level) * result.test_error + level * 0.9
    np.testing.assert_allclose(result.gap, noisy - result.train_error)
    assert float(result.gap.sel(level=0.4).mean()) > float(result.gap.sel(level=0.0).mean())


def test_correlations_are_those_of_scipy_and_lie_in_their_intervals(result):
    for name in result.measure.values:
        one = result.sel(measure=name)
        right = scipy.stats.kendalltau(one.value.values.ravel(), one.gap.values.ravel()).statistic
        assert float(one.tau.sel(scope="all")) == pytest.approx(right)
    assert (result.tau_low <= result.tau_high).all()


def test_figure_draws(result):
    figure = experiments.flatness.plot(result)
    assert len(figure.axes) == 8
    figure.draw_without_rendering()


def test_cells_are_shared_with_widths(tmp_path):
    run = {"widths": [2, 3], "epochs": 4, "store": tmp_path, **FEW}
    experiments.widths("digits", ["mlp"], level=0.2, **run)
    files = {p.name for p in tmp_path.iterdir()}
    seen = []
    experiments.flatness(
        "digits", "mlp", levels=[0.2], resamples=2,
        progress=lambda done, expected, what: seen.append(what), **run,
    )  # fmt: skip
    assert [what.split(",")[0] for what in seen] == ["reparametrised"]
    assert len({p.name for p in tmp_path.iterdir()} - files) == 1


def test_kendall_of_ordered_vectors_is_one_and_of_constant_ones_missing():
    assert kendall([1, 2, 3, 4], [2, 3, 5, 9], 20) == (1.0, 1.0, 1.0)
    assert np.isnan(kendall([1, 1, 1], [1, 2, 3], 5)).all()


def test_reparametrised_convolutions_keep_the_function():
    net = networks.ConvNet(2, 3, channels=1)
    x = torch.randn(4, 1, 8, 8)
    made = reparametrised(net, 7.0)
    assert torch.allclose(made(x), net(x), atol=1e-5)
    assert torch.allclose(made[0].weight, 7 * net[0].weight)
    with pytest.raises(ValueError, match="only a ReLU between"):
        reparametrised(nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)), 2.0)


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ({"network": "resnet18"}, "network must be one of"),
        ({"levels": [0.4, 0.2]}, "levels must be one or more increasing"),
        ({"factor": 0.0}, "factor must be positive"),
        ({"resamples": 0}, "resamples must be"),
        ({"measured": 0}, "measured must be"),
    ],
)
def test_bad_input_is_named(bad, match):
    with pytest.raises(ValueError, match=match):
        experiments.flatness(**{"data": "digits", "network": "mlp", **bad})

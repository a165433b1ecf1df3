"""Tests of `bayesgen.experiments.widths` and `bayesgen.plots.widths`."""

import numpy as np
import pytest

from bayesgen import experiments
from bayesgen.experiments.complexity_measures import MeasureSettings
from bayesgen.experiments.widths import peak
from bayesgen.plots.widths import descent

SMALL = MeasureSettings(probes=2, steps=4, draws=4, dimensions=(10,), compression_steps=4)
FEW = {"train": 40, "test": 60, "epochs": 4, "measures": SMALL, "level": 0.2}


def test_test_loss_has_a_peak_where_the_parameters_reach_the_number_of_targets():
    result = experiments.widths(
        "digits", ["mlp"], widths=[5, 14, 128], train=100, epochs=2000, seeds=4, level=0.2,
        measured=1, measures=SMALL,
    )  # fmt: skip
    loss = result.test_loss.sel(network="mlp").mean("seed").values
    assert loss[1] >= 1.4 * loss[0]
    assert loss[1] >= 1.4 * loss[2]
    assert float(result.parameters.sel(width=14)[0]) == pytest.approx(1000, rel=0.2)
    assert result.attrs["holds"] in ("yes", "partly")


@pytest.mark.slow
def test_families_of_different_widths_and_seeds_share_a_dataset():
    result = experiments.widths(
        "digits", ["mlp", "convnet"], widths=[1, 2], seeds={"mlp": 2, "convnet": 1}, **FEW
    )
    assert dict(result.sizes) == {"network": 2, "width": 2, "seed": 2, "alpha": 3}
    assert np.isfinite(result.test_loss.sel(network="mlp")).all()
    assert np.isnan(result.test_loss.sel(network="convnet", seed=1)).all()
    assert float(result.ritz_dimension.max()) <= result.attrs["steps"]
    figure = experiments.widths.plot(result)
    assert len(figure.axes) == 12
    figure.draw_without_rendering()


def test_panel_shows_loss_and_dimension():
    result = experiments.widths("digits", ["mlp"], widths=[1, 2, 3], **FEW)
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    other = descent(axes, result.isel(network=0), exact=False)
    assert "Ritz" in axes.get_legend().get_texts()[2].get_text()
    assert other.get_ylabel() == "N_eff, α = 1"


@pytest.mark.slow
def test_resnet_runs_at_small_size():
    result = experiments.widths("digits", ["resnet18"], widths=[1], **FEW | {"epochs": 1})
    assert np.isfinite(result.ggn_dimension).all()
    assert np.isnan(result.bound).all()  # BatchNorm's statistics were learnt
    assert np.isfinite(result.compressed_bound).all()


def test_peak_is_the_inner_maximum_with_the_lowest_values_beside_it():
    assert peak([3, 1, 2, 4, 2, 1.5, 2], [1, 2, 3, 4, 5, 6, 7]) == (2, 4, 6)
    assert peak([1, 2], [4, 8]) == (8, 8, 8)


def test_resumed_study_equals_an_uninterrupted_one(tmp_path):
    run = {"networks": ["mlp"], "seeds": 2, **FEW}
    experiments.widths("digits", widths=[2], store=tmp_path, **run)
    resumed = experiments.widths("digits", widths=[2, 3], store=tmp_path, **run)
    fresh = experiments.widths("digits", widths=[2, 3], **run)
    for name in fresh.data_vars:
        np.testing.assert_array_equal(resumed[name].values, fresh[name].values)


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ({"networks": ["lenet"]}, "networks must be one of"),
        ({"networks": []}, "networks must be one or more"),
        ({"widths": [0]}, "widths must be an integer of at least 1"),
        ({"widths": [4, 2]}, "widths must be increasing numbers, one or more"),
        ({"level": 1.5}, "levels must lie in"),
        ({"seeds": {"mlp": 1}}, "seeds must have a number for each"),
        ({"measured": 0}, "measured must be"),
        ({"epochs": 0}, "epochs must be"),
        ({"data": "mnist"}, "data must be one of"),
    ],
)
def test_bad_input_is_named(bad, match):
    with pytest.raises(ValueError, match=match):
        experiments.widths(**{"data": "digits", "networks": ["convnet"], **bad})

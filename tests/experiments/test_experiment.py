"""Tests of `bayesgen.experiments.experiment`."""

from datetime import UTC, datetime
from importlib import metadata

import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from sklearn.datasets import load_wine

import bayesgen as bg
from bayesgen.experiments import REPRODUCTIONS
from bayesgen.experiments.experiment import Experiment, experiment, provenance


def drawn(result):
    figure = Figure()
    figure.suptitle(f"{float(result.value)}")
    return figure


@experiment(drawn)
def doubled(x, *, times=2):
    """The product of two numbers."""
    return xr.Dataset({"value": x * times})


def test_experiment_is_its_function_with_a_plot():
    assert isinstance(doubled, Experiment)
    assert doubled.__doc__ == "The product of two numbers."
    assert doubled.__name__ == "doubled"
    result = doubled(3, times=4)
    assert float(result.value) == 12
    assert doubled.plot(result).get_suptitle() == "12.0"


def test_provenance_states_command_versions_and_time():
    said = provenance("bayesgen corruption --seeds 1")
    assert said["command"] == "bayesgen corruption --seeds 1"
    assert f"torch {metadata.version('torch')}" in said["versions"].split(", ")
    age = datetime.now(UTC) - datetime.fromisoformat(said["created"])
    assert 0 <= age.total_seconds() < 3600
    assert all(isinstance(value, str) for value in said.values())  # NetCDF stores strings.


def test_reproductions_are_experiments():
    assert all(isinstance(one, Experiment) for one in REPRODUCTIONS.values())


def test_an_experiment_on_data_takes_inputs_and_labels():
    wine = load_wine(as_frame=True)
    names = wine.target_names[wine.target]
    settings = {"levels": [0.0, 1.0], "seeds": 1}
    found = bg.experiments.corruption(wine.data, names, **settings)
    same = bg.experiments.corruption(bg.data.from_arrays(wine.data, names), **settings)
    assert found.log_marginal_likelihood.equals(same.log_marginal_likelihood)
    single = bg.experiments.corruption(wine.data, names, dtype=torch.float32, **settings)
    change = (single - found).log_marginal_likelihood[-1, 0]  # level 0 needs float64
    assert abs(float(change)) < 0.1
    with pytest.raises(ValueError, match="data_dir must not be given with a Dataset"):
        bg.experiments.corruption(wine.data, names, data_dir="folder", **settings)
    with pytest.raises(TypeError):
        doubled(1, 2)


def test_a_result_names_its_experiment():
    assert doubled(2).attrs["experiment"] == "doubled"

"""Tests of `bayesgen.experiments.experiment`."""

from datetime import UTC, datetime
from importlib import metadata

import xarray as xr
from matplotlib.figure import Figure

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

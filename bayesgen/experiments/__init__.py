"""Experiments: each returns an `xarray.Dataset` and has a `plot`."""

from bayesgen.experiments.corruption import corruption
from bayesgen.experiments.experiment import Experiment

__all__ = ["Experiment", "corruption"]

"""Experiments: each returns an `xarray.Dataset` and has a `plot`."""

from bayesgen.experiments.corruption import corruption
from bayesgen.experiments.experiment import Experiment
from bayesgen.experiments.order_selection import order_selection

__all__ = ["Experiment", "corruption", "order_selection"]

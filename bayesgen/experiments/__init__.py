"""Experiments: each returns an `xarray.Dataset` and has a `plot`."""

from bayesgen.experiments.certify import certify
from bayesgen.experiments.corruption import corruption
from bayesgen.experiments.experiment import Experiment
from bayesgen.experiments.germain import germain
from bayesgen.experiments.order_selection import order_selection
from bayesgen.experiments.regularisation import flexible_polynomial, soft_against_hard

# What `bayesgen reproduce NAME` runs.
REPRODUCTIONS: dict[str, Experiment[...]] = {
    "fig1abc": flexible_polynomial,
    "fig5": soft_against_hard,
    "occam": order_selection,
    "germain": germain,
}

__all__ = [
    "REPRODUCTIONS",
    "Experiment",
    "certify",
    "corruption",
    "flexible_polynomial",
    "germain",
    "order_selection",
    "soft_against_hard",
]

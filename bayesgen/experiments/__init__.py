"""Experiments that return an `xarray.Dataset`, each with a method `plot` for its figure."""

from bayesgen._internal import moved as _moved
from bayesgen.experiments.certify import certify
from bayesgen.experiments.corruption import corruption
from bayesgen.experiments.corruption_models import corruption_models
from bayesgen.experiments.double_descent import double_descent
from bayesgen.experiments.experiment import Experiment
from bayesgen.experiments.germain import germain
from bayesgen.experiments.laplace import laplace
from bayesgen.experiments.order_selection import order_selection
from bayesgen.experiments.regularisation import flexible_polynomial, soft_against_hard
from bayesgen.experiments.reproductions import REPRODUCTIONS, reproduce
from bayesgen.experiments.rotation import rotation

__all__ = [
    "REPRODUCTIONS",
    "Experiment",
    "certify",
    "corruption",
    "corruption_models",
    "double_descent",
    "flexible_polynomial",
    "germain",
    "laplace",
    "order_selection",
    "reproduce",
    "rotation",
    "soft_against_hard",
]

__getattr__ = _moved.former_submodules(__name__)

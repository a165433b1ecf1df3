"""Choose between models by their evidence: tables, searches and evidence surfaces."""

from bayesgen.select.features import features
from bayesgen.select.optimise import Optimum, optimise
from bayesgen.select.structures import KernelSearch, kernels
from bayesgen.select.surface import surface
from bayesgen.select.table import Selection, Table, from_frame, read, select

__all__ = [
    "KernelSearch",
    "Optimum",
    "Selection",
    "Table",
    "features",
    "from_frame",
    "kernels",
    "optimise",
    "read",
    "select",
    "surface",
]

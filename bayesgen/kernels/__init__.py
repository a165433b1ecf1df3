"""Kernels from gpytorch or from a plain function, and their length-scales and parameters."""

from bayesgen.kernels.admission import check_indices
from bayesgen.kernels.evaluation import diagonal, evaluate
from bayesgen.kernels.functions import (
    NAMES,
    ConvolutionalFeatures,
    FunctionKernel,
    KernelFunction,
    StationaryKernel,
    named,
    stationary,
)
from bayesgen.kernels.grammar import FORMS, parsed
from bayesgen.kernels.invariant import Invariant
from bayesgen.kernels.kernel import (
    check_kernel,
    free_parameters,
    has_limited_scale,
    has_one_lengthscale,
    has_only_a_lengthscale,
    keep_constraints,
    lengthscale_bounds,
    resolve,
    typical_distance,
    with_lengthscale,
    with_typical_lengthscales,
)
from bayesgen.kernels.wide_networks import NNGP, NTK, ArcCosine

__all__ = [
    "FORMS",
    "NAMES",
    "NNGP",
    "NTK",
    "ArcCosine",
    "ConvolutionalFeatures",
    "FunctionKernel",
    "Invariant",
    "KernelFunction",
    "StationaryKernel",
    "check_indices",
    "check_kernel",
    "diagonal",
    "evaluate",
    "free_parameters",
    "has_limited_scale",
    "has_one_lengthscale",
    "has_only_a_lengthscale",
    "keep_constraints",
    "lengthscale_bounds",
    "named",
    "parsed",
    "resolve",
    "stationary",
    "typical_distance",
    "with_lengthscale",
    "with_typical_lengthscales",
]

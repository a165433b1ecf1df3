"""bayesgen: models judged by their marginal likelihood."""

from importlib import metadata

from bayesgen import (
    bases,
    data,
    experiments,
    kernels,
    likelihoods,
    pacbayes,
    plots,
    priors,
    select,
    solvers,
)
from bayesgen.comparison import compare
from bayesgen.evidence import Evidence
from bayesgen.labels import corrupt_labels
from bayesgen.mode import NotConvergedError
from bayesgen.models import (
    Fourier,
    GaussianProcess,
    GPPosterior,
    LaplacePosterior,
    LinearModel,
    LinearPosterior,
    Polynomial,
    RandomFeatures,
)
from bayesgen.spectrum import Spectrum

__version__ = metadata.version("bayesgen")

__all__ = [
    "Evidence",
    "Fourier",
    "GPPosterior",
    "GaussianProcess",
    "LaplacePosterior",
    "LinearModel",
    "LinearPosterior",
    "NotConvergedError",
    "Polynomial",
    "RandomFeatures",
    "Spectrum",
    "bases",
    "compare",
    "corrupt_labels",
    "data",
    "experiments",
    "kernels",
    "likelihoods",
    "pacbayes",
    "plots",
    "priors",
    "select",
    "solvers",
]

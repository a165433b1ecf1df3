"""bayesgen: models judged by their marginal likelihood."""

from importlib import metadata

from bayesgen import (
    bases,
    data,
    experiments,
    kernels,
    likelihoods,
    networks,
    pacbayes,
    plots,
    priors,
    select,
    solvers,
)
from bayesgen.comparison import compare
from bayesgen.errors import DivergedError, NotAtModeWarning
from bayesgen.evidence import Evidence
from bayesgen.labels import corrupt_labels
from bayesgen.mode import NotConvergedError
from bayesgen.models import (
    DeepKernel,
    DeepKernelPosterior,
    Fourier,
    GaussianProcess,
    GPPosterior,
    Laplace,
    LaplacePosterior,
    LinearModel,
    LinearPosterior,
    NetworkPosterior,
    Polynomial,
    RandomFeatures,
)
from bayesgen.spectrum import Spectrum
from bayesgen.training import Climb, Training, climb, train, train_ensemble

__version__ = metadata.version("bayesgen")

__all__ = [
    "Climb",
    "DeepKernel",
    "DeepKernelPosterior",
    "DivergedError",
    "Evidence",
    "Fourier",
    "GPPosterior",
    "GaussianProcess",
    "Laplace",
    "LaplacePosterior",
    "LinearModel",
    "LinearPosterior",
    "NetworkPosterior",
    "NotAtModeWarning",
    "NotConvergedError",
    "Polynomial",
    "RandomFeatures",
    "Spectrum",
    "Training",
    "bases",
    "climb",
    "compare",
    "corrupt_labels",
    "data",
    "experiments",
    "kernels",
    "likelihoods",
    "networks",
    "pacbayes",
    "plots",
    "priors",
    "select",
    "solvers",
    "train",
    "train_ensemble",
]

"""bayesgen: models judged by their marginal likelihood."""

from importlib import metadata

from bayesgen import data, experiments, kernels, likelihoods, plots, solvers
from bayesgen.evidence import Evidence
from bayesgen.labels import corrupt_labels
from bayesgen.models import GaussianProcess, GPPosterior
from bayesgen.spectrum import Spectrum

__version__ = metadata.version("bayesgen")

__all__ = [
    "Evidence",
    "GPPosterior",
    "GaussianProcess",
    "Spectrum",
    "corrupt_labels",
    "data",
    "experiments",
    "kernels",
    "likelihoods",
    "plots",
    "solvers",
]

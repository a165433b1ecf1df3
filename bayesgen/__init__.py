"""bayesgen: models judged by their marginal likelihood."""

from bayesgen import kernels, likelihoods, solvers
from bayesgen.evidence import Evidence
from bayesgen.models import GaussianProcess, GPPosterior
from bayesgen.spectrum import Spectrum

__version__ = "0.1.0"

__all__ = [
    "Evidence",
    "GPPosterior",
    "GaussianProcess",
    "Spectrum",
    "kernels",
    "likelihoods",
    "solvers",
]

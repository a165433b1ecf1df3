"""Models that carry their evidence."""

from bayesgen.models.base import Posterior
from bayesgen.models.deep_kernel import DeepKernel
from bayesgen.models.deep_posterior import DeepKernelPosterior
from bayesgen.models.gp import GaussianProcess
from bayesgen.models.laplace import Laplace
from bayesgen.models.laplace_posterior import LaplacePosterior
from bayesgen.models.linear import Fourier, LinearModel, Polynomial, RandomFeatures
from bayesgen.models.linear_posterior import LinearPosterior
from bayesgen.models.network_posterior import NetworkPosterior
from bayesgen.models.posterior import GPPosterior

__all__ = [
    "DeepKernel",
    "DeepKernelPosterior",
    "Fourier",
    "GPPosterior",
    "GaussianProcess",
    "Laplace",
    "LaplacePosterior",
    "LinearModel",
    "LinearPosterior",
    "NetworkPosterior",
    "Polynomial",
    "Posterior",
    "RandomFeatures",
]

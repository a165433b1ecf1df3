"""Models that carry their evidence."""

from bayesgen.models.deep.model import DeepKernel
from bayesgen.models.deep.posterior import DeepKernelPosterior
from bayesgen.models.gp.model import GaussianProcess
from bayesgen.models.gp.posterior import GPPosterior
from bayesgen.models.latent.posterior import LaplacePosterior
from bayesgen.models.linear.model import LinearModel
from bayesgen.models.linear.posterior import LinearPosterior
from bayesgen.models.linear.presets import Fourier, Polynomial, RandomFeatures
from bayesgen.models.network.model import Laplace
from bayesgen.models.network.posterior import NetworkPosterior
from bayesgen.posterior.posterior import Posterior

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

"""The public models; `__init__.py` reads this file and imports each at its first use."""

from bayesgen.models.deep.model import DeepKernel as DeepKernel
from bayesgen.models.deep.posterior import DeepKernelPosterior as DeepKernelPosterior
from bayesgen.models.gp.batched import BatchPosterior as BatchPosterior
from bayesgen.models.gp.model import GaussianProcess as GaussianProcess
from bayesgen.models.gp.posterior import GPPosterior as GPPosterior
from bayesgen.models.latent.posterior import (
    LaplaceGPPosterior as LaplaceGPPosterior,
    LaplaceLinearPosterior as LaplaceLinearPosterior,
    LaplacePosterior as LaplacePosterior,
)
from bayesgen.models.linear.model import LinearModel as LinearModel
from bayesgen.models.linear.posterior import LinearPosterior as LinearPosterior
from bayesgen.models.linear.presets import (
    Fourier as Fourier,
    Polynomial as Polynomial,
    RandomFeatures as RandomFeatures,
)
from bayesgen.models.network.model import Laplace as Laplace
from bayesgen.models.network.posterior import NetworkPosterior as NetworkPosterior
from bayesgen.models.standardised import StandardisedPosterior as StandardisedPosterior
from bayesgen.posterior.posterior import Posterior as Posterior

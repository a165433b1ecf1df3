"""Models whose posterior carries an Evidence."""

from bayesgen.models.gp import GaussianProcess
from bayesgen.models.posterior import GPPosterior

__all__ = ["GPPosterior", "GaussianProcess"]

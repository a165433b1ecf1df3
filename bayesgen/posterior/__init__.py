"""The interface that the posteriors of all models share; certificates and exports need it."""

from bayesgen.posterior.posterior import ExactPosterior, Observed, Posterior

__all__ = ["ExactPosterior", "Observed", "Posterior"]

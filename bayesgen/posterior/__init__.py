"""What the posteriors of all models share: the interface that certificates and exports need."""

from bayesgen.posterior.posterior import ExactPosterior, Observed, Posterior

__all__ = ["ExactPosterior", "Observed", "Posterior"]

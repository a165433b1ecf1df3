"""Features of linear models: bases, convolutional features, and prior variances by order."""

from bayesgen.features import bases, priors

__all__ = ["bases", "priors"]

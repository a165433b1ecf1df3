"""Networks that were trained on other data: their features, as bases of priors, and themselves."""

from bayesgen.pretrained.features import features, layers
from bayesgen.pretrained.network import network
from bayesgen.pretrained.weights import NAMES

__all__ = ["NAMES", "features", "layers", "network"]

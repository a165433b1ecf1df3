"""Training of networks, with prior precisions learnt from the evidence where this is asked for."""

from bayesgen.training.ensemble import train_ensemble
from bayesgen.training.map_fit import MapFit, fit_map
from bayesgen.training.train import Training, train

__all__ = ["MapFit", "Training", "fit_map", "train", "train_ensemble"]

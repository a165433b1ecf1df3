"""Training of networks, with the option to learn prior precisions from the evidence."""

from bayesgen.training.ensemble import train_ensemble
from bayesgen.training.map_fit import MapFit, fit_map
from bayesgen.training.train import Training, train

__all__ = ["MapFit", "Training", "fit_map", "train", "train_ensemble"]

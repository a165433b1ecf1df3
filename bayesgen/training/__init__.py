"""Training networks: plain loops, with the evidence in them where it is asked for."""

from bayesgen.training.ensemble import train_ensemble
from bayesgen.training.map_fit import MapFit, fit_map
from bayesgen.training.train import Training, train

__all__ = ["MapFit", "Training", "fit_map", "train", "train_ensemble"]

"""Training networks: plain loops, with the evidence in them where it is asked for."""

from bayesgen.training.ensemble import train_ensemble
from bayesgen.training.train import Training, train

__all__ = ["Training", "train", "train_ensemble"]

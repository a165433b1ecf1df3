"""Training networks: plain loops, with the evidence in them where it is asked for."""

from bayesgen.training.climb import Climb, climb
from bayesgen.training.ensemble import train_ensemble
from bayesgen.training.train import Training, train

__all__ = ["Climb", "Training", "climb", "train", "train_ensemble"]

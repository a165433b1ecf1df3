"""Training of networks, with the option to learn prior precisions from the evidence."""

from typing import Any

from bayesgen._internal import deprecation as _deprecation, moved as _moved
from bayesgen.training.ensemble import train_ensemble
from bayesgen.training.map_fit import MapFit, fit_map
from bayesgen.training.train import Training, train

__all__ = ["MapFit", "Training", "fit_map", "train", "train_ensemble"]


def __getattr__(name: str) -> Any:
    if name in _moved.RENAMED:
        new = _moved.RENAMED[name]
        _deprecation.warn_renamed(f"bayesgen.training.{name}", f"bayesgen.training.{new}")
        return globals()[new]
    return _moved.former_submodules(__name__)(name)

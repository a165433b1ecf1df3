"""Gaussian processes: the model, its hyperparameter searches and its posteriors."""

from bayesgen._internal import moved as _moved

__getattr__ = _moved.forwarding(__name__, "model")

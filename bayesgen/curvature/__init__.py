"""Curvature of a network's log likelihood in its weights, as the Laplace approximation needs it."""

from bayesgen._internal import moved as _moved

__getattr__ = _moved.former_submodules(__name__)

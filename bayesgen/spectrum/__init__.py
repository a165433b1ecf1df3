"""Spectral measures of a covariance matrix, and the evidence computed from them.

The entry point is `Spectrum`, built from a matrix, from features, or from matrix products.
"""

from bayesgen._internal import moved as _moved
from bayesgen.solvers.quadrature import Measure
from bayesgen.spectrum.maximise import Maximum
from bayesgen.spectrum.spectrum import Spectrum

__all__ = ["Maximum", "Measure", "Spectrum"]

__getattr__ = _moved.forwarding(__name__, "spectrum", "quadrature_bracket", "decomposition")

"""Spectral measures of a covariance, and the evidence that follows from them."""

from bayesgen.solvers.quadrature import Measure
from bayesgen.spectrum.maximise import Maximum
from bayesgen.spectrum.spectrum import Spectrum

__all__ = ["Maximum", "Measure", "Spectrum"]

"""Figures of experiments: functions from a result Dataset to a matplotlib Figure."""

from bayesgen._internal import moved as _moved
from bayesgen.plots.bounds import certify, germain
from bayesgen.plots.certified_descent import certified_descent
from bayesgen.plots.claims import (
    bias_variance,
    bumps,
    contraction,
    equivariance,
    forests,
    full_batch,
    textbook,
)
from bayesgen.plots.comparison import comparison
from bayesgen.plots.components import components
from bayesgen.plots.corruption import corruption, corruption_models
from bayesgen.plots.double_descent import double_descent
from bayesgen.plots.evidence_estimates import evidence_estimates
from bayesgen.plots.figure_one import figure_one
from bayesgen.plots.figure_two import figure_two
from bayesgen.plots.flatness import flatness
from bayesgen.plots.frameworks import frameworks
from bayesgen.plots.guesses import guess_and_check, prior_mass
from bayesgen.plots.inductive_biases import inductive_biases
from bayesgen.plots.label_noise import label_noise
from bayesgen.plots.language_models import language_models
from bayesgen.plots.mode_connectivity import mode_connectivity
from bayesgen.plots.model_size import model_size
from bayesgen.plots.networks import laplace, rotation
from bayesgen.plots.regression import flexible_polynomial, order_selection, soft_against_hard
from bayesgen.plots.soft_bias import soft_bias
from bayesgen.plots.widths import widths

__all__ = [
    "bias_variance",
    "bumps",
    "certified_descent",
    "certify",
    "comparison",
    "components",
    "contraction",
    "corruption",
    "corruption_models",
    "double_descent",
    "equivariance",
    "evidence_estimates",
    "figure_one",
    "figure_two",
    "flatness",
    "flexible_polynomial",
    "forests",
    "frameworks",
    "full_batch",
    "germain",
    "guess_and_check",
    "inductive_biases",
    "label_noise",
    "language_models",
    "laplace",
    "mode_connectivity",
    "model_size",
    "order_selection",
    "prior_mass",
    "rotation",
    "soft_against_hard",
    "soft_bias",
    "textbook",
    "widths",
]

__getattr__ = _moved.former_submodules(__name__)

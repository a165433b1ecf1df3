"""Experiments that return an `xarray.Dataset`, each with a method `plot` for its figure."""

from bayesgen._internal import moved as _moved
from bayesgen.experiments.certified_descent import certified_descent
from bayesgen.experiments.certify import certify
from bayesgen.experiments.claims import (
    bias_variance,
    bumps,
    equivariance,
    full_batch,
    posterior_contraction,
    random_forests,
    textbook_orders,
)
from bayesgen.experiments.corruption import corruption
from bayesgen.experiments.corruption_models import corruption_models
from bayesgen.experiments.double_descent import double_descent
from bayesgen.experiments.experiment import Experiment
from bayesgen.experiments.flatness import flatness
from bayesgen.experiments.frameworks import frameworks
from bayesgen.experiments.germain import germain
from bayesgen.experiments.guess_and_check import guess_and_check
from bayesgen.experiments.inductive_biases import inductive_biases
from bayesgen.experiments.label_noise import gaussian_process_label_noise, resnet_label_noise
from bayesgen.experiments.language_models import language_models
from bayesgen.experiments.laplace import laplace
from bayesgen.experiments.mode_connectivity import mode_connectivity
from bayesgen.experiments.model_size import model_size
from bayesgen.experiments.order_selection import order_selection
from bayesgen.experiments.prior_mass import prior_mass
from bayesgen.experiments.regularisation import flexible_polynomial, soft_against_hard
from bayesgen.experiments.reproductions import PAGES, REPRODUCTIONS, reproduce, reproduce_page
from bayesgen.experiments.rotation import rotation
from bayesgen.experiments.soft_bias import soft_bias
from bayesgen.experiments.widths import widths

__all__ = [
    "PAGES",
    "REPRODUCTIONS",
    "Experiment",
    "bias_variance",
    "bumps",
    "certified_descent",
    "certify",
    "corruption",
    "corruption_models",
    "double_descent",
    "equivariance",
    "flatness",
    "flexible_polynomial",
    "frameworks",
    "full_batch",
    "gaussian_process_label_noise",
    "germain",
    "guess_and_check",
    "inductive_biases",
    "language_models",
    "laplace",
    "mode_connectivity",
    "model_size",
    "order_selection",
    "posterior_contraction",
    "prior_mass",
    "random_forests",
    "reproduce",
    "reproduce_page",
    "resnet_label_noise",
    "rotation",
    "soft_against_hard",
    "soft_bias",
    "textbook_orders",
    "widths",
]

__getattr__ = _moved.former_submodules(__name__)

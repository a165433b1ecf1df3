"""Smaller claims of Wilson (2025), one experiment for each."""

from bayesgen.experiments.claims.bias_variance import bias_variance
from bayesgen.experiments.claims.bumps import bumps
from bayesgen.experiments.claims.contraction import posterior_contraction
from bayesgen.experiments.claims.equivariance import equivariance
from bayesgen.experiments.claims.forest import random_forests
from bayesgen.experiments.claims.full_batch import full_batch
from bayesgen.experiments.claims.textbook import textbook_orders

__all__ = [
    "bias_variance",
    "bumps",
    "equivariance",
    "full_batch",
    "posterior_contraction",
    "random_forests",
    "textbook_orders",
]

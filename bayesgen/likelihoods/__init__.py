"""Likelihoods of latent functions, and class labels coded as targets for Gaussian noise."""

from bayesgen.likelihoods.coding import DirichletTargets, dirichlet, one_hot
from bayesgen.likelihoods.likelihood import Likelihood, Separable, resolve
from bayesgen.likelihoods.mixture import LatentMixture
from bayesgen.likelihoods.separable import Bernoulli, Gaussian, Poisson, StudentT
from bayesgen.likelihoods.softmax import Softmax

__all__ = [
    "Bernoulli",
    "DirichletTargets",
    "Gaussian",
    "LatentMixture",
    "Likelihood",
    "Poisson",
    "Separable",
    "Softmax",
    "StudentT",
    "dirichlet",
    "one_hot",
    "resolve",
]

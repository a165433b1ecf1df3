"""Laplace's approximation in function space: the mode of the latent functions and log Z there."""

from torch import Tensor

from bayesgen.likelihoods.likelihood import Likelihood, Separable
from bayesgen.models.latent.coupled import CoupledCurvature, CoupledProblem
from bayesgen.models.latent.newton import LatentProblem, Mode, best, find, promising
from bayesgen.models.latent.separable import SeparableProblem
from bayesgen.models.latent.softmax import SoftmaxCurvature, SoftmaxProblem

__all__ = [
    "CoupledCurvature",
    "CoupledProblem",
    "LatentProblem",
    "Mode",
    "SeparableProblem",
    "SoftmaxCurvature",
    "SoftmaxProblem",
    "best",
    "find",
    "problems",
    "promising",
]


def problems(likelihood: Likelihood, y: Tensor) -> list[LatentProblem]:
    """Split one task into problems that are independent given the prior.

    A likelihood with one latent value for each observation gives one problem for each column. A
    softmax couples the columns and gives one problem.

    Args:
        likelihood: likelihood of the targets.
        y: targets in the likelihood's inner form, (n, C).
    """
    if isinstance(likelihood, Separable):
        return [SeparableProblem(likelihood, column[:, None]) for column in y.mT]
    return [SoftmaxProblem(y)]

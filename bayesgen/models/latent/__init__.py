"""Laplace's approximation in function space: modes of latent functions, and log Z there."""

from torch import Tensor

from bayesgen.likelihoods.likelihood import Likelihood, Separable
from bayesgen.models.latent.coupled import CoupledCurvature, CoupledProblem
from bayesgen.models.latent.newton import LatentProblem, Mode, find
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
    "find",
    "problems",
]


def problems(likelihood: Likelihood, y: Tensor) -> list[LatentProblem]:
    """The independent problems that one task y, in its inner form (n, C), falls into."""
    if isinstance(likelihood, Separable):
        return [SeparableProblem(likelihood, column[:, None]) for column in y.mT]
    return [SoftmaxProblem(y)]

"""Laplace's approximation in function space: modes of latent functions, and log Z there."""

from torch import Tensor

from bayesgen.likelihoods.likelihood import Likelihood, Separable
from bayesgen.mode.coupled import CoupledCurvature, CoupledProblem
from bayesgen.mode.newton import Mode, NotConvergedError, Problem, find
from bayesgen.mode.separable import SeparableProblem
from bayesgen.mode.softmax import SoftmaxCurvature, SoftmaxProblem

__all__ = [
    "CoupledCurvature",
    "CoupledProblem",
    "Mode",
    "NotConvergedError",
    "Problem",
    "SeparableProblem",
    "SoftmaxCurvature",
    "SoftmaxProblem",
    "find",
    "problems",
]


def problems(likelihood: Likelihood, y: Tensor) -> list[Problem]:
    """The independent problems that one labelling y, in its inner form (n, C), falls into."""
    if isinstance(likelihood, Separable):
        return [SeparableProblem(likelihood, column[:, None]) for column in y.mT]
    return [SoftmaxProblem(y)]

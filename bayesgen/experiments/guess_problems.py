"""Small two-class problems, and networks whose weights can be guessed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bayesgen import data as datasets, networks
from bayesgen._internal import checks

# Dimension of the blobs, and distance of each mean from the origin in standard deviations; a Bayes
# classifier has the test error Φ(−2) = 0.023.
_DIMENSION, _DISTANCE = 8, 2.0
_TEST = 400


class GuessProblem(NamedTuple):
    """Inputs (n, d), float32, and labels 0 and 1, (n,), for training and test."""

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor


def _digits(n: int, rng: np.random.Generator) -> GuessProblem:
    """Images of 0 and 1 from scikit-learn's digits, less the mean image of both."""
    every = datasets.restrict(datasets.load("digits", dtype=torch.float32), (0, 1))
    x = torch.cat([every.x_train, every.x_test])
    y = torch.cat([every.y_train, every.y_test])
    order = torch.from_numpy(rng.permutation(len(x)))
    return _split(x[order] - x.mean(0), y[order], n)


def _blobs(n: int, rng: np.random.Generator) -> GuessProblem:
    """Two Gaussian clouds with opposite means."""
    count = 2 * n + _TEST
    y = torch.arange(count) % 2
    x = torch.from_numpy(rng.standard_normal((count, _DIMENSION))).float()
    x[:, 0] += _DISTANCE * (2 * y - 1)
    return _split(x, y, n)


def _split(x: Tensor, y: Tensor, n: int) -> GuessProblem:
    """The first n/2 points of each class for training, and others for test."""
    first = torch.cat([(y == label).nonzero()[: n // 2, 0] for label in (0, 1)])
    rest = torch.ones(len(y), dtype=torch.bool)
    rest[first] = False
    if len(first) < n or len(y[rest].unique()) < 2:
        fewest = min(int((y == label).sum()) for label in (0, 1))
        raise ValueError(
            f"n must leave test points of both classes and be below {2 * fewest}, got {n}"
        )
    return GuessProblem(x[first], y[first], x[rest][:_TEST], y[rest][:_TEST])


PROBLEMS: dict[str, Callable[[int, np.random.Generator], GuessProblem]] = {
    "digits 0/1": _digits,
    "blobs": _blobs,
}


def problem(name: str, n: int, seed: int) -> GuessProblem:
    """A two-class problem with n training points, the same number of each class.

    The points of a smaller n are among those of a larger one.

    Args:
        name: a name in `PROBLEMS`.
        n: an even number of training points.
        seed: seed of the choice of the points.

    Raises:
        ValueError: the name is unknown, or n is odd, below 2, or leaves too few points for tests.

    Example:
        >>> found = problem("digits 0/1", 4, seed=0)
        >>> found.y.tolist(), found.x_test.shape
        ([0, 0, 1, 1], torch.Size([356, 64]))
    """
    make = PROBLEMS[checks.one_of("problem", name, tuple(PROBLEMS))]
    if checks.whole("n", n, 2) % 2:
        raise ValueError(f"n must be even, got {n}")
    return make(n, np.random.default_rng(seed))


def _lenet(width: int, inputs: int) -> nn.Module | None:
    """Two convolutions with pooling and a linear layer, for 8 × 8 images."""
    if inputs != 64:
        return None
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * width, 1),
    )


# Functions (width, number of inputs) → network with one score, or None where it takes no such
# inputs.
FAMILIES: dict[str, Callable[[int, int], nn.Module | None]] = {
    "linear": lambda width, inputs: networks.MLP(inputs, (), 1),
    "MLP": lambda width, inputs: networks.MLP(inputs, (width,), 1),
    "LeNet-like": _lenet,
}

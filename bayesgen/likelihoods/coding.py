"""Code class labels as real targets for a Gaussian likelihood."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from bayesgen._internal import checks


def one_hot(labels: Any, num_classes: int, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """One-hot targets minus their mean: 1 − 1/C for the class of the label, −1/C for the others.

    This treats classification as regression. Each of the C outputs is a regression problem under
    the same kernel, and a prior mean of zero corresponds to guessing uniformly.

    Args:
        labels: integers in 0..C−1, shape (...), e.g. (n,) or (B, n).
        num_classes: C ≥ 2.
        dtype: dtype of the targets.

    Returns:
        The targets, (..., C).

    Raises:
        TypeError: the labels are not integers.
        ValueError: a label is outside 0..C−1; there are no labels.

    Source: Wilson & Izmailov (2020), section 6, with regression in place of the variational bound.

    Example:
        >>> one_hot([0, 1], 2)
        tensor([[ 0.5000, -0.5000],
                [-0.5000,  0.5000]], dtype=torch.float64)
    """
    labels = checks.class_labels("labels", labels, num_classes)
    return torch.nn.functional.one_hot(labels, num_classes).to(dtype) - 1 / num_classes


class DirichletTargets(NamedTuple):
    """Class labels transformed to real targets with known noise.

    Attributes:
        targets: targets, (..., C).
        noise: noise variance of each point and output, (..., C).
    """

    targets: Tensor
    noise: Tensor


def dirichlet(
    labels: Any,
    num_classes: int,
    *,
    concentration: float = 0.01,
    dtype: torch.dtype = torch.float64,
) -> DirichletTargets:
    """Targets and noise variances of Dirichlet-based Gaussian process classification.

    With a = concentration + one-hot, each output's Gamma variable is matched by a log-normal:

        σ² = log(1 + 1/a),  target = log a − σ²/2,

    minus the mean of the targets over classes. The mean does not depend on the labels, so a prior
    mean of zero corresponds to guessing uniformly. The softmax of the latent functions gives
    probabilities. The evidence is that of the transformed targets, whose noise depends on the
    labels: it can be compared between kernels for one set of labels, but not between sets.

    Args:
        labels: integers in 0..C−1, shape (...).
        num_classes: C ≥ 2.
        concentration: α_ε of the paper, > 0.
        dtype: dtype of the targets.

    Raises:
        TypeError, ValueError: as in `one_hot`; the concentration is not positive.

    Source: Milios et al. (2018), eq. 5–7.

    Example:
        >>> dirichlet([0], 2).noise
        tensor([[0.6882, 4.6151]], dtype=torch.float64)
    """
    labels = checks.class_labels("labels", labels, num_classes)
    a = torch.nn.functional.one_hot(labels, num_classes).to(dtype)
    a = a + checks.positive("concentration", concentration, like=a)
    noise = (1 / a).log1p()
    targets = a.log() - noise / 2
    return DirichletTargets(targets - targets.mean(-1, keepdim=True), noise)

"""Class labels as targets that a Gaussian likelihood can take."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from bayesgen._internal import checks


def one_hot(labels: Any, num_classes: int, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """One-hot targets less their mean under uniform guessing: 1 − 1/C for the class, −1/C else.

    Classification as regression: each of the C outputs is one regression problem under the same
    kernel; a prior mean of zero then stands for guessing uniformly.

    Args:
        labels: integers in 0..C−1, shape (...), e.g. (n,) or (B, n).
        num_classes: C ≥ 2.
        dtype: of the targets.

    Returns:
        (..., C).

    Raises:
        TypeError: the labels are not integers.
        ValueError: a label outside 0..C−1; no labels.

    Source: Wilson & Izmailov (2020), section 6, with regression for the variational bound.

    Example:
        >>> one_hot([0, 1], 2)
        tensor([[ 0.5000, -0.5000],
                [-0.5000,  0.5000]], dtype=torch.float64)
    """
    labels = checks.class_labels("labels", labels, num_classes)
    return torch.nn.functional.one_hot(labels, num_classes).to(dtype) - 1 / num_classes


class DirichletTargets(NamedTuple):
    """Transformed labels.

    Attributes:
        targets: (..., C).
        noise: variances, (..., C), known for each point and output.
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
    """Targets and noise of Dirichlet-based Gaussian process classification.

    With a = concentration + one-hot, each output's Gamma variable is matched by a log-normal:

        σ² = log(1 + 1/a),  target = log a − σ²/2,

    less the targets' mean over classes, a constant that no label moves, so that a prior mean of
    zero stands for guessing uniformly. The softmax of the latent functions gives probabilities.
    The evidence is that of the transformed targets, whose noise depends on the labels: compare it
    along kernels for one set of labels, not between sets.

    Args:
        labels: integers in 0..C−1, shape (...).
        num_classes: C ≥ 2.
        concentration: α_ε of the paper, > 0.
        dtype: of the targets.

    Raises:
        TypeError, ValueError: as `one_hot`; a concentration that is not positive.

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

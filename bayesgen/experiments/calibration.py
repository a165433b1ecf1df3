"""Scores of predicted probabilities of labels: error, log score and calibration."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from bayesgen._internal import checks


class Scores(NamedTuple):
    """Scores of predicted probabilities against true labels.

    Attributes:
        error: fraction of labels that are not the most probable class.
        nll: mean negative log probability of the label, in nats.
        ece: expected calibration error.
    """

    error: float
    nll: float
    ece: float


def scores(probabilities: Any, labels: Any, *, bins: int = 15) -> Scores:
    """Error, negative log-likelihood and expected calibration error of predicted probabilities.

        ECE = Σ_b |Σ_{i in bin b} (1[hit] − confidence)| / m

    over bins of equal width of the confidence, which is the largest probability of a row.

    Args:
        probabilities: (m, C), rows that sum to one.
        labels: integers, (m,).
        bins: number of bins of the confidence.

    Raises:
        TypeError, ValueError: an argument has the wrong type or shape or is out of range.

    Source: Naeini, Cooper & Hauskrecht (2015); Guo et al. (2017), eq. 3.

    Example:
        >>> sure, fair = [[1.0, 0.0], [1.0, 0.0]], [[0.5, 0.5], [0.5, 0.5]]
        >>> scores(sure, [0, 1]).ece, scores(fair, [0, 1]).ece
        (0.5, 0.0)
    """
    p, y = checks.as_tensor("probabilities", probabilities), torch.as_tensor(labels)
    checks.whole("bins", bins)
    if p.ndim != 2 or not len(p) or not torch.isfinite(p).all() or (p < 0).any():
        raise ValueError(
            f"probabilities must be finite, at least 0, of shape (m, C), got {tuple(p.shape)}"
        )
    if ((p.sum(1) - 1).abs() > 1e-3).any():
        raise ValueError("probabilities must have rows that sum to one")
    if y.dtype.is_floating_point or y.shape != p.shape[:1] or not _within(y, p.shape[1]):
        raise ValueError(
            f"labels must be {len(p)} integers from 0 to {p.shape[1] - 1}, got "
            f"{y.dtype} of shape {tuple(y.shape)}"
        )
    p, y = p.double(), y.to(p.device).long()
    confidence, guess = p.max(1)
    hit = (guess == y).double()
    which = (confidence * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins, dtype=p.dtype, device=p.device).index_add_(0, which, hit - confidence)
    own = p.gather(1, y[:, None]).clamp(min=torch.finfo(p.dtype).tiny)
    return Scores(float(1 - hit.mean()), float(-own.log().mean()), float(gaps.abs().sum()) / len(p))


def _within(y: Tensor, classes: int) -> bool:
    return bool((y >= 0).all() and (y < classes).all())

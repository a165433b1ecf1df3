"""Bounded losses for certificates, each with its range and its invariances."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen.pacbayes import expected_losses, validation

if TYPE_CHECKING:
    from bayesgen.posterior.posterior import Observed

LOSSES = ("zero_one", "squared", "nll")


@dataclass(frozen=True)
class Loss:
    """A bounded loss, scaled to [0, 1], in expectation over Gaussian marginals.

    Attributes:
        words: description of the loss.
        expected: (mean (..., n, C), variance (..., n, 1 or C)) → (..., n), in [0, 1].
        interval: range (a, b) of the loss before scaling.
        scale_free: whether f and any positive multiple of f have the same loss, so that the prior's
            outputscale does not matter.
        noise_free: whether the loss does not depend on σ².
        guessing: scaled loss of guessing; None where it is not a fixed number.
        labels: class labels, for the 0–1 loss; else None.
    """

    words: str
    expected: Callable[[Tensor, Tensor], Tensor]
    interval: tuple[float, float] = (0.0, 1.0)
    scale_free: bool = False
    noise_free: bool = True
    guessing: float | None = None
    labels: Tensor | None = None

    def bound(self, share: float) -> float:
        """Map a bound in [0, 1] to the loss's own range, rounded upwards."""
        a, b = self.interval
        value, size = self.unscaled(share), abs(a) + (b - a) * share
        return value if (a, b) == (0.0, 1.0) else value + 8 * 2.0**-52 * size

    def unscaled(self, share: float) -> float:
        """Map a loss in [0, 1] back to its own range."""
        a, b = self.interval
        return a + (b - a) * share


def zero_one(y: Tensor, nodes: int = expected_losses.NODES) -> Loss:
    """The 0–1 loss of the largest output, or of the sign of a single output.

    Args:
        y: coded labels, (..., n, C).
        nodes: number of quadrature nodes.

    Raises:
        ValueError: the targets are not coded class labels.
    """
    labels = classes(y)
    C = max(2, y.shape[-1])
    return Loss(
        "0–1 loss",
        lambda mean, variance: expected_losses.zero_one(mean, variance, labels, nodes),
        scale_free=True,
        guessing=1 - 1 / C,
        labels=labels,
    )


def squared(y: Tensor, clip: object) -> Loss:
    """The squared error clipped at c, min((y − f)², c).

    Raises:
        ValueError: no clip value is given.
    """
    if clip is None:
        raise ValueError(
            'loss="squared" is unbounded for real targets: pass clip=c (squared units of the '
            "targets, chosen without the data) to bound min((y − f)², c)"
        )
    most = checks.positive_number("clip", clip)
    return Loss(
        f"squared error clipped at {most:g}",
        lambda mean, variance: expected_losses.clipped_squared(mean, variance, y, most) / most,
        interval=(0.0, most),
    )


def nll(y: Tensor, noise: Tensor, clip: object) -> Loss:
    """The clipped negative log-likelihood clip(−log N(y; f, σ²), a, b) of each output, in nats.

    Raises:
        ValueError: no range is given, or it ends below the least value of the loss.
    """
    if clip is None:
        raise ValueError(
            'loss="nll" is unbounded for a Gaussian likelihood, and no PAC-Bayes bound for bounded '
            "losses holds for it. Pass clip=(a, b), in nats and chosen without the data, to bound "
            "the negative log-likelihood clipped to [a, b] (its Gibbs risk is computed "
            "separately, because the evidence holds the unclipped loss), or subgamma=(s2, c) for "
            "the oracle bound of Germain et al. (2016), corollary 5, whose constants only the true "
            "weights and noise determine"
        )
    if not isinstance(clip, tuple | list) or len(clip) != 2:
        raise ValueError(f"clip must be a range (a, b) in nats for the nll, got {clip!r}")
    a, b = validation.interval(clip, "clip")
    return Loss(
        f"negative log-likelihood clipped to [{a:g}, {b:g}] nats",
        lambda mean, variance: (
            (expected_losses.clipped_nll(mean, variance, y, noise, (a, b)) - a) / (b - a)
        ),
        interval=(a, b),
        noise_free=False,
    )


def expected_nll(mean: Tensor, variance: Tensor, y: Tensor, noise: Tensor) -> float:
    """Expected unclipped loss E_Q[−log N(y; f, σ²)], summed over outputs, averaged over rows."""
    square = (y - mean).square() + variance
    each = 0.5 * (math.log(2 * math.pi * float(noise)) + square / float(noise))
    return float(each.sum(-1).mean())


def classes(y: Tensor) -> Tensor:
    """Labels (..., n) from coded labels (..., n, C): the index of the largest entry, or the sign.

    Raises:
        ValueError: a row has no unique largest entry; a single output does not have two signs.
    """
    wanted = (
        'loss="zero_one" needs class labels as targets: one-hot rows (n, C), see '
        "bayesgen.likelihoods.one_hot, or one output of two values of different sign, such as ±1"
    )
    if y.shape[-1] == 1:
        values = y.unique()
        if len(values) > 2 or (values == 0).any() or (len(values) == 2 and values.prod() > 0):
            raise ValueError(
                f"{wanted}; got {len(values)} different values between {float(values[0]):.4g} and "
                f'{float(values[-1]):.4g}. For real targets take loss="squared" with clip='
            )
        return (y[..., 0] > 0).long()
    top = y.topk(2, -1)
    if (top.values[..., 0] <= top.values[..., 1]).any():
        raise ValueError(f"{wanted}; got rows without one largest entry")
    return top.indices[..., 0]


def of(observed: Observed, name: str, clip: object, noise: Tensor | None) -> Loss:
    """A loss by name, for the one task of a posterior with Gaussian noise.

    Raises:
        ValueError: the name is unknown; the targets or the range do not suit the loss.
    """
    checks.one_of("loss", name, LOSSES)
    y = observed.y[0]
    if name == "zero_one":
        if clip is not None:
            raise ValueError('clip is for the losses "squared" and "nll"; the 0–1 loss has none')
        return zero_one(y)
    if name == "squared":
        return squared(y, clip)
    if noise is None or noise.ndim:
        raise ValueError(
            'loss="nll" needs one noise for all points, because it is part of the loss'
        )
    return nll(y, noise, clip)


def is_trivial(offset: Tensor) -> bool:
    """Whether a prior mean is zero everywhere."""
    return not bool(torch.any(offset != 0))

"""Bounds on the loss of one coded hypothesis, for dependent tokens and for sub-sampled losses.

A text is one sequence of dependent tokens. A hypothesis predicts token k from the tokens before it
and has the loss l_k. The bounds for tokens are about the mean of E[l_k | tokens before k] over the
n tokens of this text: the loss on a token that is drawn anew after the same past. They hold for any
dependence between the tokens. They say nothing about another text, for which whole documents must
be the independent observations.

`bounds.countable` is valid for tokens too, by the inequality of Azuma and Hoeffding, because its
proof needs no more than the conditional range of each loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen.pacbayes import validation
from bayesgen.pacbayes.bounds import description
from bayesgen.pacbayes.inverse_kl import outwards
from bayesgen.pacbayes.validation import Range

# Scales s of the bound by Freedman's method; fixed, so that they do not depend on the data.
SCALES = tuple(0.98 * 10 ** (-k / 8) for k in range(25))
# Number of losses that are processed at once.
_BLOCK = 1 << 20
# Rounding error that is allowed for in losses and centres, relative to the largest of them.
_ROUNDING = 16 * 2.0**-52


def freedman(
    losses: Any,
    centres: Any,
    log_prior: Any,
    width: float,
    delta: float = 0.05,
    *,
    scales: Sequence[float] = SCALES,
) -> Tensor:
    """Bound on the mean conditional loss of a hypothesis over a sequence of dependent losses.

        mean l + min_s (D/s) [C + mean v(s (Y_k − l_k)/D)],  v(x) = x − ln(1 + x),
        C = (ln 1/P(h) + ln(S/δ))/n

    With probability at least 1 − δ, for all hypotheses of the countable set at once, the mean of
    E[l_k | past] over the n losses is at most the returned value. Each Y_k must be determined by
    the past of k, such as the loss that the hypothesis itself expects, and l_k − Y_k ≤ D must hold
    for each possible l_k. v(x) is close to x²/2, so that the bound is governed by the mean square
    of Y_k − l_k, where `countable` has the square of half the range. For independent and
    identically distributed losses the mean conditional loss is the risk.

    Proof: 1 + sX_k/D ≥ 1 − s > 0 for X_k = Y_k − l_k. The product over k of (1 + sX_k/D) divided by
    its conditional means is a martingale of mean 1, and 1 + E[sX_k/D | past] ≤ exp(E[sX_k/D |
    past]). Markov's inequality and a union over S scales and all hypotheses give the bound.

    Args:
        losses: l_k, in order, (n,).
        centres: Y_k, (n,), or one number that was chosen before the data.
        log_prior: ln P(h) ≤ 0, in nats, with all payments; see `solomonoff`.
        width: D > 0, in the unit of the losses, fixed before the data, or a part of h.
        delta: δ in (0, 1).
        scales: the S scales s in (0, 1), chosen before the data.

    Returns:
        The bound, a scalar in the unit of the losses.

    Raises:
        TypeError: an argument holds something else than real numbers.
        ValueError: shapes differ; a value is not finite; l_k − Y_k exceeds D; a scale lies outside
            of (0, 1); losses, centres or width are too large or too small for float64.

    Source: Finzi et al. (2025), theorem 3.2, with Freedman's (1975) inequality in the form of Fan
    et al. (2015) for martingales that are bounded on one side.

    Example:
        >>> from bayesgen.pacbayes import countable, freedman, solomonoff
        >>> losses = torch.rand(100_000, dtype=torch.float64).square()
        >>> bound = freedman(losses, 1 / 3, solomonoff(1000.0), 1.0)
        >>> 0.33 < float(bound) < float(countable(losses.mean(), solomonoff(1000.0), 100_000))
        True
    """
    L, D = validation.real("losses", losses).detach(), checks.number("width", width)
    if D <= 0:
        raise ValueError(f"width must be positive, got {width}")
    if L.ndim != 1 or not len(L):
        raise ValueError(f"losses must have shape (n,) with n ≥ 1, got {tuple(L.shape)}")
    Y = validation.real("centres", centres).detach()
    if Y.ndim and Y.shape != L.shape:
        raise ValueError(f"centres must have shape {tuple(L.shape)} or (), got {tuple(Y.shape)}")
    if not (torch.isfinite(L).all() and torch.isfinite(Y).all()):
        raise ValueError("losses and centres must be finite, got NaN or infinite ones")
    X = Y - L
    rounding = _ROUNDING * float(torch.maximum(L.abs(), Y.abs()).max())
    most = -float(X.min())
    if most > D + rounding:
        raise ValueError(f"losses must exceed their centres by at most the width, {D}, got {most}")
    s = validation.real("scales", scales).reshape(-1)
    if not len(s) or not ((s > 0) & (s < 1)).all():
        raise ValueError(f"scales must lie in (0, 1), got {scales!r}")
    paid = description(log_prior, delta)
    if paid.ndim:
        raise ValueError(f"log_prior must be one number, got shape {tuple(paid.shape)}")
    sums = L.new_zeros(len(s))
    for start in range(0, len(L), _BLOCK):
        x = X[start : start + _BLOCK].clamp(min=-D) / D
        sums += torch.stack([excess(scale * x).sum() for scale in s])
    C = (paid + math.log(len(s))) / len(L)
    penalty = (D / s * (C + sums / len(L))).amin()
    # A rounding error of X changes a penalty by up to s/(1 − s) times as much, at x = −1.
    bound = outwards(L.mean() + penalty, L.abs().mean() + penalty + 8 * X.abs().mean())
    bound = bound + (s / (1 - s)).amax() * rounding
    if not torch.isfinite(bound):
        raise ValueError(
            f"losses, centres and width must be of a size whose differences and quotients are "
            f"finite in float64, got losses up to {float(L.abs().max()):.3g} and width {D:.3g}"
        )
    return bound


def excess(x: Tensor) -> Tensor:
    """The function v(x) = x − ln(1 + x) of the bound by Freedman's method, for x > −1."""
    return x - torch.log1p(x)


def subsampled(
    risk: Any,
    log_prior: Any,
    n: int,
    m: int,
    delta: float = 0.05,
    loss_range: Range = (0.0, 1.0),
    *,
    candidates: int = 1,
) -> Tensor:
    """Bound on the risk from the mean loss of m random ones of the n observations.

        R̂ + (b − a) [√((ln 1/P(h) − ln(rδ))/2n) + √(−ln((1 − r)δ/K)/2m)],  r = m/(m + n)

    The n observations are independent. The m are drawn from them uniformly at random, with or
    without replacement, independently of the observations and of the hypothesis. The second root is
    the price of not evaluating all of them. It covers K hypotheses that were compared by
    sub-samples, which ln P(h) does not pay for. Where all n observations are evaluated, use
    `countable`.

    Proof: P(risk of h > mean loss over the n + first root) ≤ rδ for all h at once, by Hoeffding's
    inequality and a union bound, and P(mean loss over the n > R̂ + second root) ≤ (1 − r)δ/K for
    each of K hypotheses, by Hoeffding's inequality for samples from a finite set.

    Args:
        risk: R̂, mean loss over the m observations, in [a, b].
        log_prior: ln P(h) ≤ 0, in nats; see `solomonoff`.
        n: number of observations.
        m: number of those that were evaluated.
        delta, loss_range: δ, (a, b).
        candidates: K, the number of hypotheses whose sub-samples were compared.

    Returns:
        The bound in the unit of the loss, of the shape of risk and log_prior.

    Raises:
        TypeError: an argument is no number.
        ValueError: an argument is out of range.

    Source: Lotfi et al. (2023), theorem 2; Hoeffding (1963), section 6, for draws without
    replacement.

    Example:
        >>> from bayesgen.pacbayes import solomonoff, subsampled
        >>> round(float(subsampled(0.3, solomonoff(1000.0), 100_000, 10_000)), 4)
        0.3721
    """
    a, b = validation.interval(loss_range)
    n, m = checks.whole("n", n), checks.whole("m", m)
    if max(n, m) > 1e300:
        raise ValueError("n and m must be at most 1e300, got a larger number")
    log_K = math.log(checks.whole("candidates", candidates))
    # −ln r = ln(1 + n/m), and −ln(1 − r) = ln(1 + m/n).
    first = ((description(log_prior, delta) + math.log1p(n / m)) / (2 * n)).sqrt()
    second = math.sqrt((math.log1p(m / n) + log_K - validation.log_delta(delta)) / (2 * m))
    more = (b - a) * (first + second)
    empirical = validation.risk(risk, loss_range)
    return outwards(empirical + more, empirical.abs() + more)

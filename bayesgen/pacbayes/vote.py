"""Bounds on the risk of the majority vote of a posterior, from bounds on its Gibbs risk."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bayesgen.pacbayes import bounds, validation
from bayesgen.pacbayes.inverse_kl import outwards


def c_bound(gibbs_risk: Any, joint_risk: Any) -> Tensor:
    """The C-bound on the majority vote's risk, where E[W] ≤ r and E[W²] ≤ e.

    W is the fraction of voters that err on an observation. The vote errs only where W ≥ ½. By
    Cantelli's inequality,

        P(W ≥ ½) ≤ 1 − (½ − E[W])²/(E[W²] − E[W] + ¼),

    for any number of classes. The right side increases with E[W²]. It increases with E[W] up to
    2 E[W²], where it equals 4 E[W²].

    Args:
        gibbs_risk: r, an upper bound of E[W].
        joint_risk: e, an upper bound of E[W²], the probability that two voters err together.

    Raises:
        TypeError: an argument is no number or tensor.
        ValueError: an argument is outside [0, 1]; the shapes do not broadcast.

    Source: Lacasse et al. (2006); Germain et al. (2015), theorem 11; Masegosa et al. (2020) for
    4 E[W²].

    Example:
        >>> round(float(c_bound(torch.tensor(0.3), torch.tensor(0.12))), 3)
        0.48
    """
    gibbs_risk = validation.risk(gibbs_risk, name="gibbs_risk")
    joint_risk = validation.risk(joint_risk, name="joint_risk")
    validation.together(gibbs_risk=gibbs_risk, joint_risk=joint_risk)
    r = torch.minimum(gibbs_risk, 2 * joint_risk)
    spread = joint_risk - r + 0.25
    # The same as 1 − (½ − r)²/spread, without its cancellation at small risks; rounded upwards.
    value = (joint_risk - r.square()) / spread.clamp(min=1e-300)
    size = (joint_risk + r.square()) / spread.clamp(min=1e-300) * (1 + 1 / spread.clamp(min=1e-300))
    value = outwards(value, size)
    return torch.where(r < 0.5, value, torch.ones_like(value)).clamp(0.0, 1.0)


def vote(wrong: Tensor, kl: float, delta: float) -> tuple[float, str]:
    """Bound on the vote's risk, with its source: the C-bound or twice the Gibbs bound.

    The smaller of the two is returned. Half of δ is used for the Gibbs risk and half for two
    voters' joint risk. The divergence of their joint posterior Q × Q from P × P is 2 KL(Q ‖ P).

    Args:
        wrong: fraction of voters that err on each observation, (n,).
        kl: KL(Q ‖ P) plus all payments, nats.
        delta: δ.
    """
    n = len(wrong)
    gibbs = bounds.maurer(wrong.mean().clamp(0, 1), kl, n, delta / 2)
    joint = bounds.maurer(wrong.square().mean().clamp(0, 1), 2 * kl, n, delta / 2)
    second = float(c_bound(gibbs, joint))
    first = min(1.0, 2 * float(gibbs))
    if first <= second:
        return first, "Twice the Gibbs risk's bound, which is Maurer's (2004) at δ/2"
    return second, (
        "The C-bound, Germain et al. (2015), from Maurer's bounds on the Gibbs risk and on two "
        "voters' joint risk, δ/2 each"
    )

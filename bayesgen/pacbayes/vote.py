"""From the Gibbs risk to the deterministic classifier that takes the posterior's majority vote."""

from __future__ import annotations

import torch
from torch import Tensor

from bayesgen.pacbayes import bounds


def c_bound(gibbs_risk: Tensor, joint_risk: Tensor) -> Tensor:
    """The largest risk of the vote where E[W] ≤ r and E[W²] ≤ e, W the share of voters in error.

    The vote errs only where W ≥ ½, and by Cantelli's inequality

        P(W ≥ ½) ≤ 1 − (½ − E[W])²/(E[W²] − E[W] + ¼),

    the C-bound, for any number of classes. It grows with E[W²], and with E[W] up to 2 E[W²], where
    it is 4 E[W²].

    Args:
        gibbs_risk: r, an upper bound of E[W].
        joint_risk: e, an upper bound of E[W²], two voters' chance to err together.

    Source: Lacasse et al. (2006); Germain et al. (2015), theorem 11; Masegosa et al. (2020) for
    4 E[W²].

    Example:
        >>> round(float(c_bound(torch.tensor(0.3), torch.tensor(0.12))), 3)
        0.48
    """
    r = torch.minimum(gibbs_risk, 2 * joint_risk)
    spread = joint_risk - r + 0.25
    value = 1 - (0.5 - r).square() / spread.clamp(min=1e-300)
    return torch.where(r < 0.5, value, torch.ones_like(value)).clamp(0.0, 1.0)


def vote(wrong: Tensor, kl: float, delta: float) -> tuple[float, str]:
    """A bound on the vote's risk, the smaller of twice the Gibbs bound and the C-bound; its source.

    Half of δ goes to the Gibbs risk, half to two voters' joint risk, whose posterior Q × Q is
    2 KL(Q ‖ P) away from P × P.

    Args:
        wrong: each observation's share of voters in error, (n,).
        kl: KL(Q ‖ P) with all payments, nats.
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

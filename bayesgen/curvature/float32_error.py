"""Rounding error of a float32 Gram matrix of Jacobian rows, measured on a few observations.

Most of the error is ordinary rounding, a few eps of √(KᵢᵢKⱼⱼ). Occasionally an observation puts a
unit's input so close to the kink of a ReLU that float32 evaluates it on the other side. A whole
path then appears in its Jacobian or disappears from it. Norms of δK would overestimate the effect
of such an error, because they ignore where A⁻¹ is small. The effect of δK on the determinant is
therefore computed with A⁻¹ itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bayesgen.curvature.curvature import PriorShape
from bayesgen.curvature.jacobian import Sample
from bayesgen.curvature.jacobian_gram import grams
from bayesgen.curvature.parameters import Weights
from bayesgen.networks.inputs import converted

# Number of observations computed in both dtypes, and the safety factor for the others.
_FEW = 16
_SAFETY = 2.0


@dataclass(frozen=True)
class Measured:
    """Error δK of K = Λ^½JSJᵀΛ^½ for some observations.

    Attributes:
        rows: indices of their rows of K, (r,), observation by observation.
        owner: number of the observation that each of these rows belongs to, (r,).
        share: their fraction of all observations, m/n.
        blocks: δK at unit precision for each group of weights, (r, r), float64.
        trace: trace of their block of K at unit precision.
    """

    rows: Tensor
    owner: Tensor
    share: float
    blocks: list[Tensor]
    trace: Tensor

    def effect(self, inverse: Callable[[Tensor], Tensor], precision: Tensor) -> Tensor:
        """Estimated effect of rounding on log|A| with A = I + Σ_g K_g/α_g, ().

        To first order δ log|A| = Σᵢⱼ tr (A⁻¹)ᵢⱼδAⱼᵢ. The terms of single observations may all have
        one sign, so their absolute values are summed. The terms between two observations have
        either sign, so they are added in quadrature.

        Args:
            inverse: function that maps rows (r,) to A⁻¹ of these rows and columns, (r, r).
            precision: prior precisions α, (G,).
        """
        parts = zip(self.blocks, precision.tolist(), strict=True)
        off = sum((block / alpha for block, alpha in parts), torch.zeros_like(self.blocks[0]))
        of = torch.nn.functional.one_hot(self.owner).to(off)
        pairs = of.mT @ (inverse(self.rows).double() * off) @ of
        own = pairs.diagonal()
        between = (pairs.square().sum() - own.square().sum()).clamp(min=0).sqrt()
        return _SAFETY * (own.abs().sum() + between) / self.share

    @property
    def relative(self) -> float:
        """Estimated ‖δK‖_F/tr K for all observations, as errors of entries scale with √(KᵢᵢKⱼⱼ)."""
        total = torch.stack(self.blocks).sum(0)
        return _SAFETY * float(total.norm() / self.trace)


def measured(weights: Weights, sample: Sample, prior: PriorShape) -> Measured | None:
    """Measure δK on up to 16 observations against float64.

    The measurement includes the network's passes and the sum over the weights.

    Args:
        weights: weights of the network.
        sample: the observations.
        prior: layout of the prior precisions.

    Returns:
        The measurement, or None for weights that are already float64 and for a network that
        computes in float32 whatever the dtype of its weights.
    """
    if weights.theta.dtype == torch.float64:
        return None
    n, K = sample.values.shape
    some = torch.linspace(0, n - 1, min(_FEW, n), device=weights.theta.device).round().long()
    chosen = sample.part(some)
    kept = torch.ones_like(sample.values, dtype=torch.bool) if sample.kept is None else sample.kept
    place = (kept.reshape(-1).cumsum(0) - 1).reshape(n, K)[some][kept[some]]

    def blocks(own: Weights) -> list[Tensor]:
        like = own.theta
        few = replace(
            chosen,
            x=converted(chosen.x, like.dtype),
            values=chosen.values.to(like),
            vectors=chosen.vectors.to(like),
        )
        wide = (block.double() for block in grams(own, few, prior))
        return [b if b.shape[1] == few.count else b @ b.mT for b in wide]

    wide = weights.converted(torch.float64)
    try:
        wide.outputs(converted(sample.x[some], torch.float64), sample.batch)
    except Exception:  # forward creates tensors in float32 itself
        return None
    exact = blocks(wide)
    rough = blocks(weights)
    return Measured(
        place,
        torch.arange(len(some), device=some.device).repeat_interleave(kept[some].sum(1)),
        len(some) / n,
        [a - b for a, b in zip(rough, exact, strict=True)],
        torch.stack(exact).sum(0).trace(),
    )

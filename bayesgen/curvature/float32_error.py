"""What float32 does to a Gram matrix of Jacobian rows, measured on a few observations.

Most of it is rounding proper, a few eps of √(KᵢᵢKⱼⱼ). Now and then an observation puts a unit's
input so near to a ReLU's kink that float32 sees it on the other side: a whole path appears in its
Jacobian, or is gone. Norms of δK know nothing of where A⁻¹ is small, and would make a disaster of
that; hence what δK does to the determinant is measured, with the A⁻¹ that is at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bayesgen.curvature.curvature import PriorShape
from bayesgen.curvature.jacobian import Sample
from bayesgen.curvature.jacobian_gram import grams
from bayesgen.curvature.parameters import Weights

# Observations that are looked at in both, and what the rest may be worse by.
_FEW = 16
_SAFETY = 2.0


@dataclass(frozen=True)
class Measured:
    """δK of K = Λ^½JSJᵀΛ^½ for some observations.

    Attributes:
        rows: of K that are theirs, (mK,), observation by observation.
        observations: m.
        share: of all observations, m/n.
        blocks: δK at unit precision for each group of weights, (mK, mK), float64.
        trace: tr K of theirs at unit precision.
    """

    rows: Tensor
    observations: int
    share: float
    blocks: list[Tensor]
    trace: Tensor

    def effect(self, inverse: Callable[[Tensor], Tensor], precision: Tensor) -> Tensor:
        """What rounding may do to log|A|, A = I + Σ_g K_g/α_g, ().

        δ log|A| = Σᵢⱼ tr (A⁻¹)ᵢⱼδAⱼᵢ to first order. An observation's own terms may all have one
        sign; those between two have either, and their sum grows as the root of their number.

        Args:
            inverse: rows → A⁻¹ of these rows and columns, (r, r).
            precision: α, (G,).
        """
        parts = zip(self.blocks, precision.tolist(), strict=True)
        off = sum((block / alpha for block, alpha in parts), torch.zeros_like(self.blocks[0]))
        m = self.observations
        pairs = (inverse(self.rows).double() * off).reshape(m, -1, m, len(off) // m).sum((1, 3))
        own = pairs.diagonal()
        between = (pairs.square().sum() - own.square().sum()).clamp(min=0).sqrt()
        return _SAFETY * (own.abs().sum() + between) / self.share

    @property
    def relative(self) -> float:
        """‖δK‖_F/tr K, for all as for some: an entry's rounding goes with √(KᵢᵢKⱼⱼ)."""
        total = torch.stack(self.blocks).sum(0)
        return _SAFETY * float(total.norm() / self.trace)


def measured(weights: Weights, sample: Sample, prior: PriorShape) -> Measured | None:
    """δK for 16 observations against float64: passes and the sum over the weights are all in it.

    Returns:
        None for weights that are float64 already.
    """
    if weights.theta.dtype == torch.float64:
        return None
    n, K = len(sample.x), sample.count // len(sample.x)
    some = torch.linspace(0, n - 1, min(_FEW, n), device=sample.x.device).round().long()

    def blocks(own: Weights) -> list[Tensor]:
        like = own.theta
        few = Sample(
            sample.x[some].to(like),
            sample.values[some].to(like),
            sample.vectors[some].to(like),
            sample.batch,
            sample.memory,
        )
        wide = (block.double() for block in grams(own, few, prior))
        return [b if b.shape[1] == few.count else b @ b.mT for b in wide]

    exact = blocks(weights.converted(torch.float64))
    rough = blocks(weights)
    return Measured(
        (some[:, None] * K + torch.arange(K, device=some.device)).reshape(-1),
        len(some),
        len(some) / n,
        [a - b for a, b in zip(rough, exact, strict=True)],
        torch.stack(exact).sum(0).trace(),
    )

"""What float32 does to a Gram matrix of Jacobian rows, measured on a few observations."""

from __future__ import annotations

import torch
from torch import Tensor

from bayesgen.curvature.base import PriorShape
from bayesgen.curvature.dual import grams
from bayesgen.curvature.sample import Sample
from bayesgen.curvature.weights import Weights

# Observations that are looked at in both, and what the rest may be worse by.
_FEW = 16
_SAFETY = 2.0


def measured(weights: Weights, sample: Sample, prior: PriorShape) -> float | None:
    """‖δK‖_F/tr K of K = Λ^½JSJᵀΛ^½, twice what it is for 16 observations against float64.

    Forward and backward passes and the sum over the weights are all in it. An entry's rounding goes
    with √(KᵢᵢKⱼⱼ), whatever cancels in it, hence tr K, which is the Frobenius norm of these.

    Returns:
        None for weights that are float64 already.
    """
    if weights.theta.dtype == torch.float64:
        return None
    some = torch.linspace(0, len(sample.x) - 1, min(_FEW, len(sample.x))).round().long()

    def gram(own: Weights) -> Tensor:
        like = own.theta
        few = Sample(
            sample.x[some].to(like),
            sample.values[some].to(like),
            sample.vectors[some].to(like),
            sample.batch,
            sample.memory,
        )
        total = torch.zeros(few.count, few.count, dtype=torch.float64, device=like.device)
        for block in grams(own, few, prior):
            wide = block.double()
            total += wide if wide.shape[1] == few.count else wide @ wide.mT
        return total

    exact = gram(weights.converted(torch.float64))
    return _SAFETY * float((gram(weights) - exact).norm() / exact.trace())

"""Rows vᵀ∂f/∂θ of a network's Jacobian by plain reverse passes, one observation at a time.

They are right for every network that maps each observation on its own, whatever its layers do, and
are slower than `bayesgen.curvature.jacobian_rows`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bayesgen.curvature.jacobian_rows import Part
from bayesgen.curvature.parameters import Weights


def direct_rows(weights: Weights, x: Any, vectors: Tensor, parts: list[Part]) -> list[Tensor]:
    """Rows of vᵀJ for each part, (b, K, p).

    Args:
        weights: weights of the network.
        x: inputs, (b, …).
        vectors: v of each observation, (b, C, K).
        parts: parts of the network whose columns are computed.
    """
    b, _, K = vectors.shape
    index = torch.cat([part.index() for part in parts]).to(weights.theta.device)
    found = weights.theta.new_empty(b, K, len(index))
    for i in range(b):
        with weights.tracking():
            f = weights.evaluate(x[i : i + 1])
            for k in range(K):
                v = vectors[i, :, k].to(f)[None]
                found[i, k] = weights.pulled(f, v, keep=k + 1 < K)[index]
    return list(found.split([len(part.index()) for part in parts], -1))

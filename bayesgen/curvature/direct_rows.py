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
    index = [part.index() for part in parts]
    every = torch.cat(index).to(weights.theta.device)
    found = alone(weights, x, vectors, every)[1]
    return list(found.split([len(each) for each in index], -1))


def alone(
    weights: Weights, x: Any, vectors: Tensor, index: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Outputs (b, C) and rows of vᵀJ, (b, K, P), of observations that are run one by one.

    Args:
        weights: weights of the network.
        x: inputs, (b, …).
        vectors: v of each observation, (b, C, K).
        index: columns of θ that are wanted; None for all.
    """
    b, C, K = vectors.shape
    columns = weights.count if index is None else len(index)
    outputs, found = weights.theta.new_empty(b, C), weights.theta.new_empty(b, K, columns)
    for i in range(b):
        with weights.tracking():
            f = weights.evaluate(x[i : i + 1])
            outputs[i] = f.detach()[0]
            for k in range(K):
                row = weights.pulled(f, vectors[i, :, k].to(f)[None], keep=k + 1 < K)
                found[i, k] = row if index is None else row[index]
    return outputs, found

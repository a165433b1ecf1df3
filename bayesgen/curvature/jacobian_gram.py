"""Gram matrices of the Jacobian's rows, (nK, nK), computed from a few layers at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from bayesgen._internal.progress import Progress
from bayesgen.curvature.curvature import PriorShape
from bayesgen.curvature.gradient_check import GradientCheck
from bayesgen.curvature.jacobian import Sample, chunks, jacobian
from bayesgen.curvature.parameters import Weights

# Rows in a block of the symmetric product; blocks above the diagonal are not computed.
_BLOCK = 1024


def add_gram(K: Tensor, left: Tensor) -> None:
    """Add L Lᵀ to K on and below the block diagonal."""
    for start in range(0, len(left), _BLOCK):
        stop = min(start + _BLOCK, len(left))
        K[start:stop, :stop].addmm_(left[start:stop], left[:stop].mT)


def mirror(K: Tensor) -> Tensor:
    """Copy the lower triangle to the upper one, in place."""
    for start in range(0, len(K), _BLOCK):
        stop = min(start + _BLOCK, len(K))
        K[:start, start:stop] = K[start:stop, :start].mT
        block = K[start:stop, start:stop]
        block.copy_(block.tril() + block.tril(-1).mT)
    return K


def grams(
    weights: Weights, sample: Sample, prior: PriorShape, progress: Progress | None = None
) -> list[Tensor]:
    """Contribution of each group of weights to Λ^½JSJᵀΛ^½ at unit precision, S = diag(base)⁻¹.

    Each is an (nK, nK) Gram matrix, or its rows Λ^½JS^½ (nK, p) where these take less memory.

    Args:
        weights: weights of the network.
        sample: the observations.
        prior: layout of the prior precisions.
        progress: called as progress(done, expected, what) after each chunk of layers.

    Raises:
        RowsDifferError: the rows contradict the gradient of the sample.
    """
    n, G = sample.count, prior.count
    like = weights.theta
    shrink = prior.base.rsqrt().to(like)
    sizes = torch.bincount(prior.group, minlength=G)
    whole: dict[int, Tensor] = {}
    narrow: dict[int, list[Tensor]] = {}
    every = list(chunks(weights, n, sample.memory))
    check = GradientCheck(weights, sample)
    for number, parts in enumerate(every):
        J = jacobian(weights, sample, parts)
        index = torch.cat([part.index() for part in parts])
        check.add(index, J)
        J.mul_(shrink[index])
        group = prior.group[index]
        for g in group.unique().tolist():
            columns = J if G == 1 else J[:, group == g]
            if 2 * int(sizes[g]) < n and G > 1:
                narrow.setdefault(g, []).append(columns)
                continue
            if g not in whole:
                whole[g] = like.new_zeros(n, n)
            add_gram(whole[g], columns)
        if progress is not None:
            progress(number + 1, len(every), "curvature")
    check.settle()
    return [mirror(whole[g]) if g in whole else torch.cat(narrow[g], 1) for g in range(G)]

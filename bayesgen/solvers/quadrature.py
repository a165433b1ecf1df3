"""Discrete spectral measures, and products with squared eigenvectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Rows processed at a time where eigenvectors are squared.
_ROWS = 1024


@dataclass(frozen=True)
class Measure:
    """A discrete measure Σ wᵢ δ(λᵢ) on the eigenvalues of an operator.

    Attributes:
        nodes: eigenvalues λᵢ, (m,) or (..., m).
        weights: wᵢ ≥ 0, broadcastable with the nodes.
    """

    nodes: Tensor
    weights: Tensor

    def integrate(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Integral Σ wᵢ f(λᵢ) over the last axis; f may add batch axes in front."""
        return (self.weights * function(self.nodes)).sum(-1)

    def log_shifted(self, shifts: Tensor) -> Tensor:
        """Σ wᵢ log(λᵢ + ρ) for many shifts ρ (G,), as (..., G)."""
        shifted = (self.nodes[..., None, :] + shifts[:, None]).log()
        return (shifted * self.weights[..., None, :]).sum(-1)

    def resolvent(self, shifts: Tensor) -> Tensor:
        """Σ wᵢ/(λᵢ + ρ) for many shifts ρ (G,), as (..., G); one product if nodes are shared."""
        if self.nodes.ndim == 1:
            return self.weights @ (1 / (self.nodes[:, None] + shifts))
        shifted = self.nodes[..., None, :] + shifts[:, None]
        return (self.weights[..., None, :] / shifted).sum(-1)


def between(gauss: Measure, radau: Measure) -> Measure:
    """Mean of the Gauss and the Gauss–Radau rule, the middle of the bracket they form.

    Once the two rules begin to converge, their errors have about the same size and opposite signs.
    The mean is then far more accurate than either rule (averaged rules: Laurie 1996).
    """
    return Measure(
        torch.cat([gauss.nodes, radau.nodes], -1),
        0.5 * torch.cat([gauss.weights, radau.weights], -1),
    )


class SquaredProduct(torch.autograd.Function):
    """Product of U∘U (elementwise square) with weights (m, k), by blocks of rows.

    The matrix of squares is never stored as a whole.
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, weights: Tensor) -> Tensor:
        """Product (n, k) of the squared vectors (n, m) with the weights (m, k)."""
        ctx.vectors = vectors
        return torch.cat([rows.square() @ weights for rows in vectors.split(_ROWS)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        """Gradient in the weights; the vectors get none."""
        (gradient,) = gradients
        parts = zip(ctx.vectors.split(_ROWS), gradient.split(_ROWS), strict=True)
        total = sum(rows.square().mT @ part for rows, part in parts)
        return None, torch.as_tensor(total)

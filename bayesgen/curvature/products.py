"""Products of the GGN and the Hessian with vectors, by plain reverse passes.

They are right for every differentiable network. The operators of curvlinops are faster, and
`bayesgen.curvature.matrix_free` uses them where their product with a random vector agrees.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from bayesgen.curvature.parameters import Weights, differentiable
from bayesgen.likelihoods.likelihood import Likelihood


class Products(ABC):
    """A curvature of −log p(D | θ) as an operator (P, P).

    Args:
        weights: weights of the network.
        likelihood: likelihood of its outputs.
        data: batches (x, y), the same at every pass, y in the likelihood's inner form.
    """

    def __init__(
        self, weights: Weights, likelihood: Likelihood, data: Iterable[tuple[Any, Tensor]]
    ) -> None:
        self.weights, self.likelihood, self.data = weights, likelihood, data
        self.shape = (weights.count, weights.count)
        self.dtype, self.device = weights.theta.dtype, weights.theta.device

    def __matmul__(self, v: Tensor) -> Tensor:
        """Product with the columns of v, (P,) or (P, k)."""
        columns = v if v.ndim == 2 else v[:, None]
        total = torch.zeros_like(columns)
        for x, y in self.data:
            total += self.batch(x, y, columns)
        return total if v.ndim == 2 else total[:, 0]

    @abstractmethod
    def batch(self, x: Any, y: Tensor, v: Tensor) -> Tensor:
        """Contribution of one batch to the product with v, (P, k)."""


class GGN(Products):
    """The GGN JᵀΛJ, by a product with J, one with Λ and one with Jᵀ."""

    def batch(self, x: Any, y: Tensor, v: Tensor) -> Tensor:
        """Contribution of one batch to the product with v, (P, k)."""
        weights = self.weights
        with torch.no_grad():
            values, vectors = self.likelihood.roots(y, weights.evaluate(x))
        Lambda = (vectors * values[:, None, :]) @ vectors.mT
        found = []
        for column in v.mT:
            moved = weights.jvp(x, column, len(x))
            seen = torch.einsum("nce,ne->nc", Lambda.to(moved), moved)
            found.append(weights.vjp(x, seen, len(x)).to(v))
        return torch.stack(found, -1)


class Hessian(Products):
    """The Hessian, by a reverse pass through the gradient."""

    def batch(self, x: Any, y: Tensor, v: Tensor) -> Tensor:
        """Contribution of one batch to the product with v, (P, k)."""
        with self.weights.tracking() as own:
            loss = -self.likelihood.log_density(y, self.weights.evaluate(x)).sum()
            if not loss.requires_grad:
                return torch.zeros_like(v)
            with differentiable():
                slopes = torch.autograd.grad(
                    loss, own, create_graph=True, allow_unused=True, materialize_grads=True
                )
            gradient = torch.cat([g.reshape(-1) for g in slopes])
            if not gradient.requires_grad:
                return torch.zeros_like(v)
            found = [self.weights.pulled(gradient, column, keep=True) for column in v.mT]
        return torch.stack(found, -1).detach()


PRODUCTS: dict[str, type[Products]] = {"ggn": GGN, "hessian": Hessian}

"""The prior covariance ΦSΦᵀ of a linear model as a Gram matrix, a function of the prior's decay."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bayesgen import provenance
from bayesgen.covariance.gram import Gram
from bayesgen.features.bases import Features
from bayesgen.features.priors import Prior
from bayesgen.spectrum.decomposition import Decomposition, decompose


class FeatureGram(Gram):
    """Gram matrix K = Φ diag(v(θ)) Φᵀ; θ is the prior's decay in its search coordinate, or empty.

    Args:
        features: the basis, fixed to the training inputs.
        x: the inputs, (n, D).
        prior: variances by order, without the prior's scale.
        order: features above this order are switched off; None keeps all.
        decomposition: "svd", "gram" or "auto"; see `bayesgen.models.LinearModel`.
    """

    def __init__(
        self,
        features: Features,
        x: Tensor,
        prior: Prior,
        order: int | None = None,
        decomposition: str = "svd",
    ) -> None:
        self.features, self.x, self.prior = features, x, prior
        self.Phi = features(x)
        self.decomposition = decomposition
        self.order = int(features.orders.max()) if order is None else order
        self.orders = features.orders.to(x.device)
        self.off = self.orders > self.order
        self._last: tuple[Tensor, Decomposition] | None = None

    def up_to(self, order: int) -> FeatureGram:
        """The same Gram matrix with the features above another order switched off."""
        if order == self.order:
            return self
        other = copy.copy(self)
        other.order, other.off, other._last = order, self.orders > order, None
        return other

    def given(self) -> dict[str, list[Any]]:
        """The objects that the basis and the prior variances consist of, for the provenance."""
        of = self.features
        return {"features": [of.function, of.map, of.basis], "prior": [self.prior.profile]}

    def has_range_of_inputs(self) -> bool:
        """Whether some column's stated range or period is that of these inputs, and not round.

        A basis that took them itself says so in `features.data_dependent`.
        """
        known = self.features.map
        if known is None:
            return False
        low, high = self.x.amin(0), self.x.amax(0)
        ends = (known.centre - known.half_width, known.centre + known.half_width)
        same = _close(ends[0], low) & _close(ends[1], high)
        for factor in (1, 2):  # a period is a map of centre 0
            same |= (known.centre == 0) & _close(known.half_width, factor * (high - low))
        taken = torch.stack([*ends, known.half_width])[:, same]
        return not all(provenance.is_round(float(value)) for value in taken.reshape(-1))

    @property
    def kind(self) -> str:
        """Name of the kind of basis, by which learnt orders are recorded."""
        return type(self.features.basis).__name__

    def decompose(self, theta: Tensor) -> Decomposition:
        """Singular value decomposition of Φ diag(v)^½; the result for the last θ is cached."""
        if self._last is None or not torch.equal(self._last[0], theta):
            self._last = (theta.clone(), decompose(self.rooted(theta), self.decomposition))
        return self._last[1]

    def start(self) -> Tensor:
        """Initial θ from the prior, (1,), or (0,) for a prior without decay."""
        if self.prior.decay is None:
            return self.x.new_zeros(0)
        return self.x.new_tensor([self.prior.coordinate(self.prior.decay)])

    def log_variance(self, theta: Tensor) -> Tensor:
        """Logarithm of v at unit scale, (d,); −∞ where a feature is off. Differentiable in θ."""
        decay = self.prior.natural(theta[0].double()) if len(theta) else None
        values = self.prior.log_variance(self.orders, decay)
        return values.masked_fill(self.off, -torch.inf).to(self.x)

    def rooted(self, theta: Tensor) -> Tensor:
        """Features Φ diag(v)^½ without those that are switched off, (n, d')."""
        log_v = self.log_variance(theta)
        keep = log_v > -torch.inf
        return self.Phi[:, keep] * (0.5 * log_v[keep]).exp()

    def matrix(self, theta: Tensor) -> Tensor:
        """Gram matrix K(θ), a new (n, n) tensor."""
        rooted = self.rooted(theta)
        return rooted @ rooted.mT

    def cross(self, x_new: Tensor) -> Callable[[Tensor], Tensor]:
        """Function θ → k_θ(x_new, x), (m, n)."""
        Phi = self.features(x_new)
        return lambda theta: (Phi * self.log_variance(theta).exp()) @ self.Phi.mT

    def diagonal(self, theta: Tensor, x_new: Tensor) -> Tensor:
        """Variances k_θ(x, x) at the rows x of x_new, (m,)."""
        return self.features(x_new).square() @ self.log_variance(theta).exp()

    def full(self, theta: Tensor, x_new: Tensor) -> Tensor:
        """Covariance matrix k_θ(x_new, x_new), (m, m)."""
        Phi = self.features(x_new)
        return (Phi * self.log_variance(theta).exp()) @ Phi.mT

    def pull(self, theta: Tensor, weights: Tensor) -> Tensor:
        """Inner product ⟨weights, ∂K/∂θ⟩ = Σⱼ φⱼᵀ G φⱼ ∂vⱼ/∂θ with G = weights, (p,)."""
        if not len(theta):
            return theta
        return self.chain(theta, ((weights @ self.Phi) * self.Phi).sum(0), of_log=False)

    def chain(self, theta: Tensor, gradient: Tensor, *, of_log: bool) -> Tensor:
        """Chain rule: turn a gradient (..., d) in v, or in log v, into one in θ, (..., 1)."""
        # Two reverse passes give the product with 1: v ↦ Jᵀv is linear, and its derivative is J.
        # torch's forward mode does not work in several threads at once.
        with torch.enable_grad():
            free = theta.detach().clone().requires_grad_()
            value = self.log_variance(free).masked_fill(self.off, 0.0)
            v = torch.zeros_like(value, requires_grad=True)
            (pulled,) = torch.autograd.grad(value, free, v, create_graph=True)
            (jacobian,) = torch.autograd.grad(pulled.sum(), v)
        factor = jacobian if of_log else jacobian * self.log_variance(theta).exp()
        return (gradient * factor).sum(-1, keepdim=True)


def _close(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs() <= 1e-6 * torch.maximum(a.abs(), b.abs())

"""A linear model's prior covariance ΦSΦᵀ as a Gram matrix, along the decay of its prior."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from bayesgen.covariance.gram import Gram
from bayesgen.features.bases import Features
from bayesgen.features.priors import Prior
from bayesgen.spectrum.decomposition import Decomposition, decompose


class FeatureGram(Gram):
    """K = Φ diag(v(θ)) Φᵀ; θ is the prior's decay in its search coordinate, or nothing.

    Args:
        features: the basis, fixed to the training inputs.
        x: the inputs, (n, D).
        prior: variances by order, its scale left out.
        order: features above this order are switched off; None keeps all.
        decomposition: "svd" or "gram"; see `bayesgen.models.LinearModel`.
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
        """The same features, those above another order switched off."""
        if order == self.order:
            return self
        other = copy.copy(self)
        other.order, other.off, other._last = order, self.orders > order, None
        return other

    def decompose(self, theta: Tensor) -> Decomposition:
        """Singular vectors of Φ diag(v)^½; the last are kept."""
        if self._last is None or not torch.equal(self._last[0], theta):
            self._last = (theta.clone(), decompose(self.rooted(theta), self.decomposition))
        return self._last[1]

    def start(self) -> Tensor:
        """θ as the prior has it, (1,) or (0,)."""
        if self.prior.decay is None:
            return self.x.new_zeros(0)
        return self.x.new_tensor([self.prior.coordinate(self.prior.decay)])

    def log_variance(self, theta: Tensor) -> Tensor:
        """log v at unit scale, (d,); −∞ where a weight is off. Differentiable in θ."""
        decay = self.prior.natural(theta[0].double()) if len(theta) else None
        values = self.prior.log_variance(self.orders, decay)
        return values.masked_fill(self.off, -torch.inf).to(self.x)

    def rooted(self, theta: Tensor) -> Tensor:
        """Φ diag(v)^½ without the features that are off, (n, d')."""
        log_v = self.log_variance(theta)
        keep = log_v > -torch.inf
        return self.Phi[:, keep] * (0.5 * log_v[keep]).exp()

    def matrix(self, theta: Tensor) -> Tensor:
        """See `Gram.matrix`."""
        rooted = self.rooted(theta)
        return rooted @ rooted.mT

    def cross(self, x_new: Tensor) -> Callable[[Tensor], Tensor]:
        """See `Gram.cross`."""
        Phi = self.features(x_new)
        return lambda theta: (Phi * self.log_variance(theta).exp()) @ self.Phi.mT

    def diagonal(self, theta: Tensor, x_new: Tensor) -> Tensor:
        """See `Gram.diagonal`."""
        return self.features(x_new).square() @ self.log_variance(theta).exp()

    def full(self, theta: Tensor, x_new: Tensor) -> Tensor:
        """See `Gram.full`."""
        Phi = self.features(x_new)
        return (Phi * self.log_variance(theta).exp()) @ Phi.mT

    def pull(self, theta: Tensor, weights: Tensor) -> Tensor:
        """Σⱼ φⱼᵀ G φⱼ ∂vⱼ/∂θ."""
        if not len(theta):
            return theta
        return self.chain(theta, ((weights @ self.Phi) * self.Phi).sum(0), of_log=False)

    def chain(self, theta: Tensor, gradient: Tensor, *, of_log: bool) -> Tensor:
        """A gradient (..., d) in v, or in log v, carried on to θ: (..., 1)."""
        jacobian = torch.func.jvp(
            lambda t: self.log_variance(t).masked_fill(self.off, 0.0),
            (theta,),
            (torch.ones_like(theta),),
        )[1]
        factor = jacobian if of_log else jacobian * self.log_variance(theta).exp()
        return (gradient * factor).sum(-1, keepdim=True)

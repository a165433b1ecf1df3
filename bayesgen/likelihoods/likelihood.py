"""What a likelihood p(y | f) of latent functions has to say for Laplace's approximation."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from bayesgen._internal import checks

_NAMED: dict[str, Callable[[], Likelihood]] = {}


def named(*names: str) -> Callable[[type], type]:
    """Register a likelihood that needs no arguments under these names."""

    def register(maker: type) -> type:
        _NAMED.update(dict.fromkeys(names, maker))
        return maker

    return register


def resolve(likelihood: Any) -> Likelihood | None:
    """A `Likelihood` from one or from its name; None for "gaussian" (which is exact).

    Raises:
        ValueError: another name.
        TypeError: neither.

    Example:
        >>> resolve("bernoulli").name
        'bernoulli'
    """
    if isinstance(likelihood, Likelihood):
        return likelihood
    if not isinstance(likelihood, str):
        raise TypeError(
            "likelihood must be a name or a bayesgen.likelihoods.Likelihood, "
            f"got {type(likelihood).__name__}"
        )
    checks.one_of("likelihood", likelihood, ("gaussian", *_NAMED))
    return None if likelihood == "gaussian" else _NAMED[likelihood]()


class Likelihood(ABC):
    """p(y | f): observations of a row given the latent functions there.

    Attributes:
        name: one word.
        log_noise: log σ² of a likelihood that has a noise to learn, (); else None.
        density: whether y is continuous, so that its evidence is a density and not a probability.
    """

    name: str
    log_noise: Tensor | None = None
    density = False

    @abstractmethod
    def targets(self, y: Any, like: Tensor) -> Tensor:
        """The checked targets of n = len(like) rows in their inner form, (B, n, C) or (B, n).

        Raises:
            TypeError, ValueError: y is not what this likelihood observes.
        """

    @abstractmethod
    def log_density(self, y: Tensor, f: Tensor) -> Tensor:
        """log p(y | f) of each row, (..., n), for f of shape (..., n, C)."""

    @abstractmethod
    def observe(self, f: Tensor) -> Distribution:
        """The distribution of observations given f (..., C latent functions last)."""

    @abstractmethod
    def roots(self, y: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
        """−∇∇ log p(y | f) of each row as V diag(w) Vᵀ, w > 0: values (n, K), vectors (n, C, K).

        For y in its inner form, (n, ...), and f (n, C).

        Raises:
            ValueError: it is not positive semi-definite somewhere.
        """

    @abstractmethod
    def predictive(self, mean: Tensor, covariance: Tensor) -> Distribution:
        """The distribution of new observations, f ~ N(mean, covariance) integrated out."""


def with_noise(likelihood: Likelihood, log_noise: Tensor | None) -> Likelihood:
    """The likelihood with this log σ², a copy."""
    if log_noise is None:
        return likelihood
    likelihood = copy.copy(likelihood)
    likelihood.log_noise = log_noise
    return likelihood


class LikelihoodDerivatives(NamedTuple):
    """LikelihoodDerivatives of log p(y | f) in f, element by element.

    Attributes:
        value, first, second, third: of f's shape.
    """

    value: Tensor
    first: Tensor
    second: Tensor
    third: Tensor


class Separable(Likelihood):
    """Every output of every row is observed through its own latent value.

    A new one needs `observe` and `element`; derivatives follow by automatic differentiation.
    """

    @abstractmethod
    def element(self, y: Tensor, f: Tensor) -> Tensor:
        """log p(yᵢ | fᵢ), element by element; differentiable three times in f."""

    def log_density(self, y: Tensor, f: Tensor) -> Tensor:
        """See `Likelihood.log_density`."""
        return self.element(y, f).sum(-1)

    def derivatives(self, y: Tensor, f: Tensor) -> LikelihoodDerivatives:
        """The first three derivatives in f."""
        with torch.enable_grad():
            f = f.detach().requires_grad_()
            value = self.element(y, f)
            parts = [value]
            for _ in range(3):
                (part,) = torch.autograd.grad(
                    parts[-1].sum(), f, create_graph=True, materialize_grads=True
                )
                parts.append(part)
        return LikelihoodDerivatives(*(part.detach() for part in parts))

    def roots(self, y: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
        """See `Likelihood.roots`."""
        values, C = -self.derivatives(y, f).second, f.shape[-1]
        if (values < 0).any():
            raise ValueError(
                f"a {self.name} likelihood is not log-concave at {int((values < 0).sum())} of "
                f"{values.numel()} outputs: it has no Gauss–Newton matrix there"
            )
        return values, torch.eye(C, dtype=f.dtype, device=f.device).expand(len(f), C, C)

    def curvature(self, y: Tensor, f: Tensor) -> Tensor:
        """A positive −∂²/∂f² with which a Newton step cannot lose: W itself where concave."""
        return -self.derivatives(y, f).second

    def observations(self, name: str, y: Any, like: Tensor) -> Tensor:
        """Integers or reals of shape (n,) or (B, n) as (B, n, 1)."""
        tensor = checks.as_tensor(name, y)
        if tensor.is_complex():
            raise TypeError(f"{name} must hold real numbers, got dtype {tensor.dtype}")
        tensor = checks.real(name, tensor.to(device=like.device, dtype=like.dtype), like=like)
        if tensor.ndim not in (1, 2) or tensor.shape[-1] != len(like):
            raise ValueError(
                f"{name} must have shape (n,) or (B, n) with n = {len(like)}, "
                f"got {tuple(tensor.shape)}"
            )
        return tensor.reshape(-1, len(like), 1)

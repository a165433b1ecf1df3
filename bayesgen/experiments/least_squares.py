"""Many small linear models at once: least squares of minimum norm, and the ridge of most evidence.

`LinearModel` fits one set of features at a time. The experiments on double descent and on soft
biases fit thousands of small ones, and decompose those of one shape together. `LeastSquares.check`
compares a model of the batch with `LinearModel`.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from bayesgen import verify
from bayesgen.models.linear.model import LinearModel

# Ridges per largest eigenvalue between which the maximum is looked for, as powers of e.
_LOWEST, _HIGHEST, _GRID = math.log(1e-13), math.log(1e4), 80
# Number of times that the maximum is looked for again between its two neighbours, and on how many
# points; each time their distance shrinks fourfold.
_ZOOMS, _FINER = 7, 9


@dataclass(frozen=True)
class Ridge:
    """Ridges of maximum evidence for y = Φw + ε, w ~ N(0, sI) and ε ~ N(0, σ²I).

    Attributes:
        ratio: the ridge σ²/s, (B,).
        scale: s, a variance, (B,).
        log_marginal_likelihood: the evidence in nats, (B,).
    """

    ratio: Tensor
    scale: Tensor
    log_marginal_likelihood: Tensor

    @property
    def noise(self) -> Tensor:
        """The noise variance σ², (B,)."""
        return self.ratio * self.scale


class LeastSquares:
    """Linear models with features Φ (B, n, d) and targets (B, n, C), decomposed together.

    The eigenvalues are those of the smaller of ΦΦᵀ and ΦᵀΦ. Those below n·eps·λ_max are rounding
    and count as zero.

    Attributes:
        eigenvalues: squared singular values of Φ that are not zero by rounding, in rising order;
            the others are 0, (B, min(n, d)).

    Args:
        Phi: features, float64.
        y: targets, float64.
        gram: ΦᵀΦ where d < n, and otherwise ΦΦᵀ; None computes it.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> Phi = torch.randn(1, 9, 4, dtype=torch.float64, generator=generator)
        >>> y = Phi @ torch.ones(4, 1, dtype=torch.float64)
        >>> LeastSquares(Phi, y).weights(0.0).flatten().round(decimals=6).tolist()
        [1.0, 1.0, 1.0, 1.0]
    """

    def __init__(self, Phi: Tensor, y: Tensor, gram: Tensor | None = None) -> None:
        self.Phi = Phi
        n, d = Phi.shape[-2:]
        self.tall = d < n
        if gram is None:
            gram = Phi.mT @ Phi if self.tall else Phi @ Phi.mT
        values, self.vectors = torch.linalg.eigh(gram)
        least = max(n, d) * torch.finfo(values.dtype).eps * values[:, -1:]
        self.eigenvalues = torch.where(values > least, values, values.new_zeros(()))
        self._load(y)

    def _load(self, y: Tensor) -> None:
        """Write targets in the basis of the left singular vectors, and what is outside of it."""
        self.y = y
        if self.tall:
            along = self.vectors.mT @ (self.Phi.mT @ y)
            root = self.eigenvalues.sqrt()[..., None]
            self.loads = torch.where(root > 0, along / root, 0.0)
            rest = y - self.Phi @ (self.vectors @ torch.where(root > 0, self.loads / root, 0.0))
            self.outside = rest.square().sum((-2, -1))
        else:
            self.loads = self.vectors.mT @ y
            self.outside = y.new_zeros(len(y))

    def of_targets(self, y: Tensor) -> LeastSquares:
        """The same features, decomposed already, with other targets (B, n, C)."""
        other = copy(self)
        other._load(y)
        return other

    def weights(self, ratio: Tensor | float) -> Tensor:
        """Weights (ΦᵀΦ + ρI)⁻¹Φᵀy, (B, d, C); those of minimum norm where the ridge ρ is 0.

        Args:
            ratio: the ridge, one or one for each model.
        """
        ratio = torch.as_tensor(ratio, dtype=self.y.dtype).expand(len(self.y))[:, None]
        damped = self.eigenvalues + ratio
        inverse = torch.where(self.eigenvalues > 0, 1 / damped, 0.0)[..., None]
        if self.tall:
            return self.vectors @ (inverse * self.eigenvalues.sqrt()[..., None] * self.loads)
        return self.Phi.mT @ (self.vectors @ (inverse * self.loads))

    def effective_dimension(self, alpha: float) -> Tensor:
        """N_eff(ΦᵀΦ; α) = Σ λ/(λ + α), (B,)."""
        return (self.eigenvalues / (self.eigenvalues + alpha)).sum(-1)

    def ridge(self) -> Ridge:
        """The ridges of maximum evidence, with the scale of maximum evidence at each."""
        largest = self.eigenvalues[:, -1:].log()
        points = torch.linspace(_LOWEST, _HIGHEST, _GRID, dtype=self.y.dtype) + largest
        inner = torch.linspace(0, 1, _FINER, dtype=self.y.dtype)
        for _ in range(_ZOOMS):
            best = self._profile(points).argmax(-1, keepdim=True).clamp(1, points.shape[-1] - 2)
            low, high = points.gather(-1, best - 1), points.gather(-1, best + 1)
            points = low + inner * (high - low)
        values = self._profile(points)
        best = values.argmax(-1, keepdim=True)
        top = points.gather(-1, best)
        return Ridge(top[:, 0].exp(), self._scale(top)[:, 0], values.gather(-1, best)[:, 0])

    def check(self, ridge: Ridge, member: int) -> verify.Check:
        """Compare the evidence of one model of the batch with that of `LinearModel`."""
        model = LinearModel(
            prior_variance=float(ridge.scale[member]), noise=float(ridge.noise[member])
        )
        direct = model.fit(self.Phi[member], self.y[member], hyperparameters="fixed").evidence
        return verify.compare(
            "evidence of a linear model",
            ridge.log_marginal_likelihood[member],
            direct.log_marginal_likelihood,
        )

    def _scale(self, log_ratio: Tensor) -> Tensor:
        """The scale of maximum evidence for ridges (B, G)."""
        ratio = log_ratio.exp()
        damped = self.eigenvalues[:, None] + ratio[..., None]
        power = self.loads.square().sum(-1)[:, None]
        total = (power / damped).sum(-1) + self.outside[:, None] / ratio
        return total / self.y[0].numel()

    def _profile(self, log_ratio: Tensor) -> Tensor:
        """The evidence at ridges (B, G) with the scale of maximum evidence, in nats."""
        n, C = self.y.shape[-2:]
        m = self.eigenvalues.shape[-1]
        damped = self.eigenvalues[:, None] + log_ratio.exp()[..., None]
        logdet = damped.log().sum(-1) + (n - m) * log_ratio
        each = math.log(2 * math.pi) + 1 + self._scale(log_ratio).log()
        return -0.5 * (n * C * each + C * logdet)

"""The softmax likelihood of class labels with C latent functions."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution

from bayesgen._internal import checks
from bayesgen.likelihoods.likelihood import Likelihood, named


@named("softmax", "categorical")
class Softmax(Likelihood):
    """Labels 0 … C − 1 with p(y = c | f) = e^{f_c} / Σ e^{f_c'}.

    Args:
        num_classes: C ≥ 2; None takes the largest label + 1.
        samples: number of draws of the latent functions in a predictive probability.
        seed: seed of these draws, which are the same for every prediction.

    Source: Rasmussen & Williams (2006), section 3.5.
    """

    name = "softmax"
    labels = True
    coupled = True
    log_concave = True

    def __init__(
        self, num_classes: int | None = None, *, samples: int = 1000, seed: int = 0
    ) -> None:
        if num_classes is not None and num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        self.num_classes, self.samples, self.seed = num_classes, samples, seed

    def targets(self, y: Any, like: Tensor) -> Tensor:
        """Convert integer labels, (n,) or (B, n), to one-hot targets, (B, n, C)."""
        y = checks.as_tensor("y", y)
        largest = int(y.max()) if y.numel() and not y.is_complex() else 1
        C = self.num_classes or max(2, largest + 1)
        labels = checks.class_labels("y", y, C)
        if labels.ndim not in (1, 2) or labels.shape[-1] != len(like):
            raise ValueError(
                f"y must have shape (n,) or (B, n) with n = {len(like)}, got {tuple(y.shape)}"
            )
        coded = torch.nn.functional.one_hot(labels.reshape(-1, len(like)), C)
        return coded.to(like)

    def log_density(self, y: Tensor, f: Tensor) -> Tensor:
        """Log probability of the label of each row, (..., n)."""
        return (y * f).sum(-1) - f.logsumexp(-1)

    def roots(self, y: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
        """Curvature diag(π) − ππᵀ of each row by C − 1 vectors; along (1, …, 1) it is zero.

        It equals diag(√π)(I − √π√πᵀ)diag(√π). The projection is expanded in the other C − 1 columns
        of the Householder reflection that maps √π to the axis m of the largest πₘ. This gives Σⱼ
        πⱼvⱼvⱼᵀ over j ≠ m with vⱼ = eⱼ − q, where qₘ = √πₘ and q = π/(1 + √πₘ) elsewhere. The
        vectors have size one and are accurate for any πⱼ, however small.
        """
        p = f.softmax(-1)
        largest = p.argmax(-1, keepdim=True)
        top = p.gather(-1, largest).sqrt()
        q = (p / (1 + top)).scatter(-1, largest, top)
        others = torch.arange(p.shape[-1] - 1, device=p.device).expand_as(p[..., 1:])
        others = others + (others >= largest)
        axes = torch.nn.functional.one_hot(others, p.shape[-1]).mT
        return p.gather(-1, others), axes.to(p) - q[..., :, None]

    def observe(self, f: Tensor) -> Distribution:
        """Categorical distribution of labels given f."""
        return Categorical(logits=f)

    def predictive(self, mean: Tensor, covariance: Tensor) -> Distribution:
        """Categorical distribution with probabilities averaged over draws of f.

        The covariance is (..., C, C). Rasmussen & Williams (2006), Algorithm 3.4, with antithetic
        draws that all points share.
        """
        generator = torch.Generator().manual_seed(self.seed)
        C, half = mean.shape[-1], (self.samples + 1) // 2
        z = torch.randn(half, C, generator=generator, dtype=torch.float64).to(mean)
        values, vectors = torch.linalg.eigh(covariance)
        root = vectors * values.clamp(min=0).sqrt()[..., None, :]
        steps = torch.einsum("...ij,sj->s...i", root, torch.cat([z, -z]))
        return Categorical(probs=torch.softmax(mean + steps, -1).mean(0))

    def probit(self, mean: Tensor, variance: Tensor) -> Distribution:
        """Categorical distribution by the probit approximation; see `Likelihood.probit`."""
        return Categorical(logits=mean / (1 + math.pi / 8 * variance).sqrt())

    def for_outputs(self, outputs: int, shape: torch.Size) -> Likelihood:
        """A softmax likelihood with the number of classes fixed; see `Likelihood.for_outputs`."""
        if outputs < 2 or self.num_classes not in (None, outputs):
            raise ValueError(
                f"net must have {self.num_classes or 'at least 2'} outputs for a "
                f"categorical likelihood, got {outputs}"
            )
        own = copy.copy(self)
        own.num_classes = outputs
        return own

    def identified(self, outputs: int) -> Tensor:
        """Orthonormal directions orthogonal to (1, …, 1), on which p(y | f) depends, (C, C − 1)."""
        eye = torch.eye(outputs, dtype=torch.float64)
        return torch.linalg.eigh(eye - 1 / outputs).eigenvectors[:, 1:]

    def drawing(self, outputs: int, samples: int, seed: int) -> Likelihood:
        """A softmax likelihood whose predictions average over this number of draws."""
        own = copy.copy(self)
        own.num_classes, own.samples, own.seed = outputs, samples, seed
        return own

    def averaged(self, draws: Tensor) -> Distribution:
        """Categorical distribution with probabilities averaged over the draws."""
        return Categorical(probs=draws.softmax(-1).mean(0))

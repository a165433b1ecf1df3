"""Classes through a softmax of C latent functions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution

from bayesgen._internal import checks
from bayesgen.likelihoods.likelihood import Likelihood, named


@named("softmax", "categorical")
class Softmax(Likelihood):
    """Labels 0 … C − 1, p(y = c | f) = e^{f_c} / Σ e^{f_c'}.

    Args:
        num_classes: C ≥ 2; None takes the largest label + 1.
        samples: draws of the latent functions in a predictive probability.
        seed: of those draws, the same for every prediction.

    Source: Rasmussen & Williams (2006), section 3.5.
    """

    name = "softmax"

    def __init__(
        self, num_classes: int | None = None, *, samples: int = 1000, seed: int = 0
    ) -> None:
        if num_classes is not None and num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        self.num_classes, self.samples, self.seed = num_classes, samples, seed

    def targets(self, y: Any, like: Tensor) -> Tensor:
        """One-hot (B, n, C), from integer labels (n,) or (B, n)."""
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
        """See `Likelihood.log_density`."""
        return (y * f).sum(-1) - f.logsumexp(-1)

    def roots(self, y: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
        """Of diag(π) − ππᵀ, C − 1 of each row; the direction 1 has no curvature.

        diag(√π)(I − √π√πᵀ)diag(√π), the projection by the other C − 1 columns of the Householder
        reflection that takes √π to the axis m of the largest πₘ. That makes Σⱼ πⱼvⱼvⱼᵀ over j ≠ m,
        vⱼ = eⱼ − q with qₘ = √πₘ and q = π/(1 + √πₘ) elsewhere: of size one, and exact, however
        small πⱼ is.
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
        """See `Likelihood.observe`."""
        return Categorical(logits=f)

    def predictive(self, mean: Tensor, covariance: Tensor) -> Distribution:
        """Probabilities averaged over draws of f; covariance (..., C, C).

        Rasmussen & Williams (2006), Algorithm 3.4. Antithetic draws, shared by all points.
        """
        generator = torch.Generator().manual_seed(self.seed)
        C, half = mean.shape[-1], (self.samples + 1) // 2
        z = torch.randn(half, C, generator=generator, dtype=torch.float64).to(mean)
        values, vectors = torch.linalg.eigh(covariance)
        root = vectors * values.clamp(min=0).sqrt()[..., None, :]
        steps = torch.einsum("...ij,sj->s...i", root, torch.cat([z, -z]))
        return Categorical(probs=torch.softmax(mean + steps, -1).mean(0))

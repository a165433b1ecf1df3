"""What a deep kernel is trained on: the evidence above the features, whole or conditional."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import gpytorch
import torch
from torch import Tensor, nn

from bayesgen import solvers
from bayesgen.kernels import evaluate, free_parameters


class Head(nn.Module):
    """The GP above the features: A = s·k(φ, φ) + σ²I, its hyperparameters as parameters.

    Args:
        kernel: of unit outputscale.
        scale: s, ().
        noise: σ², ().
        learn_noise: whether σ² is to move.
        floor: the smallest σ² of the search.
    """

    def __init__(
        self,
        kernel: gpytorch.kernels.Kernel,
        scale: Tensor,
        noise: Tensor,
        *,
        learn_noise: bool,
        floor: float,
    ) -> None:
        super().__init__()
        self.kernel, self.floor = kernel, floor
        self.log_scale = nn.Parameter(scale.double().log())
        self.log_noise = nn.Parameter(noise.double().log(), requires_grad=learn_noise)

    @property
    def scale(self) -> Tensor:
        """S, ()."""
        return self.log_scale.exp()

    @property
    def noise(self) -> Tensor:
        """σ², ()."""
        return self.log_noise.exp()

    def free(self) -> list[nn.Parameter]:
        """Those that are trained."""
        own = [self.log_scale, self.log_noise]
        return [*free_parameters(self.kernel), *(p for p in own if p.requires_grad)]

    def covariance(self, phi: Tensor) -> Tensor:
        """A, (n, n), differentiable in φ and the parameters."""
        noise = self.noise * torch.eye(len(phi), dtype=phi.dtype, device=phi.device)
        return self.scale * evaluate(self.kernel, phi) + noise

    def clip(self) -> None:
        """The noise, where it is searched, not below its floor."""
        if self.log_noise.requires_grad:
            with torch.no_grad():
                self.log_noise.clamp_(min=math.log(self.floor))


@dataclass(frozen=True)
class Sensed:
    """An objective at one setting.

    Attributes:
        value: nats.
        weights: ∂ value/∂A, (n, n).
    """

    value: float
    weights: Tensor


Objective = Callable[[Tensor, Tensor, torch.Generator], Sensed]


def evidence(A: Tensor, y: Tensor, _: torch.Generator) -> Sensed:
    """log p(y | φ), all outputs by one factorisation."""
    found = solvers.sensitivity(solvers.cholesky(A), y)
    return Sensed(float(found.value), found.gradient)


def conditional(share: float) -> Objective:
    """log p(y_{>m} | y_{≤m}, φ) = log p(y) − log p(y_{≤m}), m a share of n, in a fresh order.

    Source: Lotfi et al. (2022), eq. 4 and section 6.
    """

    def objective(A: Tensor, y: Tensor, generator: torch.Generator) -> Sensed:
        n = len(y)
        first = torch.randperm(n, generator=generator)[: round(share * n)].to(y.device)
        whole = evidence(A, y, generator)
        part = evidence(A[first][:, first], y[first], generator)
        weights = whole.weights
        weights[first[:, None], first] -= part.weights
        return Sensed(whole.value - part.value, weights)

    return objective


def step(
    head: Head, phi: Tensor, y: Tensor, objective: Objective, generator: torch.Generator
) -> tuple[float, Tensor]:
    """The value, and its gradient in φ (n, D); those of the head's parameters are added to them."""
    phi = phi.detach().requires_grad_()
    with torch.enable_grad():
        A = head.covariance(phi)
    sensed = objective(A.detach(), y, generator)
    A.backward(-sensed.weights)  # the optimiser descends
    assert phi.grad is not None
    return sensed.value, phi.grad

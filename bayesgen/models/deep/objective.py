"""Training objectives of a deep kernel: the evidence or the conditional evidence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import gpytorch
import torch
from torch import Tensor, nn

from bayesgen import solvers
from bayesgen.kernels import evaluate, free_parameters, keep_constraints


class Head(nn.Module):
    """The Gaussian process on the features, A = s·k(φ, φ) + σ²I, as a module with parameters.

    Args:
        kernel: kernel of unit outputscale.
        scale: outputscale s, ().
        noise: noise variance σ², ().
        learn_noise: whether σ² is trained.
        floor: smallest σ² in training.
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
        """The outputscale s, ()."""
        return self.log_scale.exp()

    @property
    def noise(self) -> Tensor:
        """The noise variance σ², ()."""
        return self.log_noise.exp()

    def free(self) -> list[nn.Parameter]:
        """The hyperparameters that are trained."""
        own = [self.log_scale, self.log_noise]
        return [*free_parameters(self.kernel), *(p for p in own if p.requires_grad)]

    def covariance(self, phi: Tensor) -> Tensor:
        """The covariance A, (n, n), differentiable in φ and in the hyperparameters."""
        noise = self.noise * torch.eye(len(phi), dtype=phi.dtype, device=phi.device)
        return self.scale * evaluate(self.kernel, phi) + noise

    def clip(self) -> None:
        """Raise the noise to its floor, and move the kernel's parameters into constraints."""
        keep_constraints(self.kernel)
        if self.log_noise.requires_grad:
            with torch.no_grad():
                self.log_noise.clamp_(min=math.log(self.floor))


@dataclass(frozen=True)
class Sensed:
    """The value of an objective at one covariance, with its gradient.

    Attributes:
        value: the value, in nats.
        weights: the gradient ∂ value/∂A, (n, n).
    """

    value: float
    weights: Tensor


Objective = Callable[[Tensor, Tensor, torch.Generator], Sensed]


def evidence(A: Tensor, y: Tensor, _: torch.Generator) -> Sensed:
    """The log marginal likelihood log p(y | φ) and its gradient, by one factorisation."""
    found = solvers.sensitivity(solvers.cholesky(A), y)
    return Sensed(float(found.value), found.gradient)


def conditional(share: float) -> Objective:
    """The objective log p(y_{>m} | y_{≤m}, φ) = log p(y) − log p(y_{≤m}).

    Each call draws a new order of the observations.

    Args:
        share: m as a share of n.

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
    """The value of the objective and its gradient in the features, (n, D).

    The gradients of the negative objective in the head's parameters are added to those parameters.
    The returned gradient is that of the negative objective too, as optimisers minimise.
    """
    phi = phi.detach().requires_grad_()
    with torch.enable_grad():
        A = head.covariance(phi)
    sensed = objective(A.detach(), y, generator)
    A.backward(-sensed.weights)  # the optimiser descends
    assert phi.grad is not None
    return sensed.value, phi.grad

"""Laplace's approximation in function space: Newton's method for the mode of f given y.

The prior is f ~ N(0, K), and W = −∇∇ log p(y | f). K is never inverted: written in a = K⁻¹f and
R = (K + W⁻¹)⁻¹, every quantity stays finite where K is singular.

Source: Rasmussen & Williams (2006), sections 3.4 and 3.5.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from bayesgen import solvers
from bayesgen.errors import NotConvergedError
from bayesgen.evidence import Evidence

# Largest number of steps.
_MOST = 100
# Number of steps without a gain above rounding after which the search ends where the gradient norm
# is small; the error of the evidence includes what is left of the gradient.
_STALLED, _SMALL = 3, 0.1
# A factorisation costs about ten chord steps. It is recomputed where a step leaves more than this
# fraction of the gradient.
_SLOW = 0.3


class LatentCurvature(ABC):
    """The curvature W at one f, factorised.

    The Laplace posterior is N(f, Σ) with Σ = K − KRK and R = (K + W⁻¹)⁻¹.
    """

    @abstractmethod
    def times(self, v: Tensor) -> Tensor:
        """The product R v, for v of f's shape (n, C)."""

    @abstractmethod
    def logdet(self) -> Tensor:
        """The log-determinant log |I + KW|, ()."""

    @abstractmethod
    def blocks(self) -> Tensor:
        """The diagonal blocks of R, one for each latent function, (C, n, n)."""

    def trace(self) -> Tensor:
        """The trace of R, or an upper bound of it, ()."""
        return self.blocks().diagonal(dim1=-2, dim2=-1).sum()

    @abstractmethod
    def effective_dimension(self) -> Tensor:
        """The effective dimension tr ΣW, ()."""

    @abstractmethod
    def variance(self) -> Tensor:
        """Posterior variances Σᵢᵢ at the inputs, (n,), or (n, C) for C coupled functions."""

    @abstractmethod
    def covariances(self, cross: Tensor, prior: Tensor) -> Tensor:
        """Posterior variances at m other points, (m,), or (m, C, C) for C coupled functions.

        Args:
            cross: prior covariances k(x, x*), (n, m).
            prior: prior variances k(x*, x*), (m,).
        """

    @abstractmethod
    def determinant_slope(self) -> Tensor:
        """Gradient of −½ log |I + KW| in f, (n, C)."""


class LatentProblem(Protocol):
    """The log likelihood log p(y | f) of one task and its derivatives, as Newton's method needs."""

    def value(self, f: Tensor) -> Tensor:
        """The log likelihood log p(y | f) in nats, ()."""

    def gradient(self, f: Tensor) -> Tensor:
        """The gradient ∇ log p(y | f), (n, C)."""

    def curvature(self, K: Tensor, f: Tensor) -> LatentCurvature | None:
        """The curvature W at f, or None where K⁻¹ + W is not positive definite."""

    def majorant(self, K: Tensor, f: Tensor) -> LatentCurvature:
        """A PSD curvature at f, whose Newton step points uphill."""


@dataclass
class Mode:
    """The mode of one task and Laplace's approximation at it.

    Attributes:
        f: the mode, (n, C).
        a: K⁻¹f, which equals ∇ log p(y | f) at the mode, (n, C).
        curvature: the curvature W at the mode.
        evidence: the `Evidence`, batch shape ().
        steps: number of Newton steps.
        gradient_norm: ‖∇ log p(y | f) − a‖ at the end of the search.
        pulled: u = (I + WK)⁻¹v, (n, C), with v = `curvature.determinant_slope()`.
    """

    f: Tensor
    a: Tensor
    curvature: LatentCurvature
    evidence: Evidence
    steps: int
    gradient_norm: float
    pulled: Tensor

    def covariance_gradient(self) -> Tensor:
        """Gradient G = ∂ log Z/∂K, (n, n), so that ∂ log Z/∂θ = ⟨G, ∂K/∂θ⟩.

            G = ½ Σ_c [a_c a_cᵀ − R_cc + u_c a_cᵀ + a_c u_cᵀ]

        with u = `pulled`. The terms in u are the effect of the motion of the mode.

        Source: Rasmussen & Williams (2006), eq. 5.22–5.24.
        """
        u, blocks = self.pulled, self.curvature.blocks()
        G = (blocks.sum(0) if len(blocks) > 1 else blocks[0]) * -0.5
        G.addmm_(self.a, self.a.mT, alpha=0.5)
        G.addmm_(u, self.a.mT, alpha=0.5)
        return G.addmm_(self.a, u.mT, alpha=0.5)

    def mode_weights(self, K: Tensor) -> Tensor:
        """Derivative of log Z in ∇ log p(y | f) through the motion of the mode: Σ v, (n, C)."""
        return K @ self.pulled


def factorise(K: Tensor, D: Tensor) -> solvers.Factor:
    """Cholesky factor of I + D^½ K D^½ for a non-negative diagonal D, (n,)."""
    root = D.sqrt()

    def matrix() -> Tensor:
        result = K * root[:, None]
        result.mul_(root).diagonal().add_(1)
        return result

    return solvers.cholesky(matrix)


def find(K: Tensor, problem: LatentProblem, start: Tensor) -> Mode:
    """The mode of log p(y | f) − ½ fᵀK⁻¹f, and Laplace's log Z at it.

        log Z = log p(y | f) − ½ aᵀf − ½ log |I + KW|,
        fit = log p(y | f) − ½ tr ΣW,  complexity = ½ [log |I + KW| − tr ΣW + aᵀf].

    The method is Newton's with a line search. A factorisation is kept as long as each step with it
    divides the gradient by about three (chord steps, O(n²) each). The last factorisation is at the
    mode.

    Args:
        K: prior covariance, (n, n).
        problem: log likelihood of the data.
        start: value of a = K⁻¹f to start from, (n, C); zeros start at the prior mean.

    Raises:
        NotConvergedError: no mode was found within 100 steps (the message gives the last gradient
            norm), or rounding makes the complexity negative.
    """
    eps = torch.finfo(K.dtype).eps
    wanted, enough = eps ** (2 / 3), 100 * eps**0.5
    a, f = _better_start(K, problem, start)
    value = problem.value(f) - 0.5 * (a * f).sum()
    curvature: LatentCurvature | None = None
    last, best, stalled = math.inf, math.inf, 0
    for step in range(_MOST):
        residual = problem.gradient(f) - a
        spread = K @ residual
        # ‖K^½ r‖ is the gradient norm in coordinates in which the prior covariance is I.
        size = math.sqrt(max(float((residual * spread).sum()), 0.0))
        # The second condition holds where rounding prevents further progress.
        if size < wanted or (size < enough and size > 0.5 * best):
            break
        if stalled >= _STALLED and size < _SMALL:
            break
        best = min(best, size)
        if curvature is None or size > _SLOW * last:
            curvature = problem.curvature(K, f)
        tried = curvature or problem.majorant(K, f)
        moved = _line_search(K, problem, a, f, value, residual - tried.times(spread))
        if moved is None and curvature is not None:
            tried = problem.majorant(K, f)
            moved = _line_search(K, problem, a, f, value, residual - tried.times(spread))
            curvature = None
        if moved is None:
            if size < enough:
                break
            raise _failure(residual, step, "no step along Newton's direction gains")
        stalled = stalled + 1 if moved[2] - value <= _slack(value) else 0
        a, f, value = moved
        last = size
    else:
        raise _failure(residual, _MOST, "its steps ran out")
    final = problem.curvature(K, f)
    if final is None:
        raise _failure(residual, step, "it stands where the curvature is not positive definite")
    return _mode(K, problem, a, f, final, size, step, float(residual.norm()))


def _mode(
    K: Tensor,
    problem: LatentProblem,
    a: Tensor,
    f: Tensor,
    curvature: LatentCurvature,
    size: float,
    steps: int,
    gradient_norm: float,
) -> Mode:
    n = len(f)
    dof, logdet, pull = curvature.effective_dimension(), curvature.logdet(), (a * f).sum()
    fit = problem.value(f) - 0.5 * dof
    complexity = 0.5 * (logdet - dof + pull)
    trace = curvature.trace()
    largest = solvers.largest_eigenvalue(lambda v: K @ v, K)
    rounding = solvers.rounding_norm(n, largest, K.dtype)
    if not complexity >= -1e-6 * (1 + abs(float(fit))):  # a divergence; NaN included
        raise NotConvergedError(
            "the prior covariance is too ill-conditioned for this likelihood: rounding leaves the "
            f"complexity at {float(complexity):.3g} nats, gradient norm {gradient_norm:.3g}; use a "
            "smaller outputscale or a larger noise"
        )
    slope = curvature.determinant_slope()
    spread = K @ slope
    reach = max(float((slope * spread).sum()), 0.0) ** 0.5
    evidence = Evidence(
        fit,
        complexity,
        n,
        dof,
        error=0.5 * rounding * (a.square().sum() + trace) + size * (size + reach),
        method="Laplace, by Newton in function space",
    )
    pulled = slope - curvature.times(spread)
    return Mode(f, a, curvature, evidence, steps, gradient_norm, pulled)


def _better_start(K: Tensor, problem: LatentProblem, start: Tensor) -> tuple[Tensor, Tensor]:
    """The better of the given start and zero, as (a, f)."""
    zero = torch.zeros_like(start)
    if not start.any():
        return zero, zero
    f = K @ start
    here = problem.value(f) - 0.5 * (start * f).sum()
    return (start, f) if here > problem.value(zero) else (zero, zero)


def _slack(value: Tensor) -> Tensor:
    """Change of the log posterior that rounding may cause."""
    return 1e2 * torch.finfo(value.dtype).eps * (1 + value.abs())


def _line_search(
    K: Tensor, problem: LatentProblem, a: Tensor, f: Tensor, value: Tensor, da: Tensor
) -> tuple[Tensor, Tensor, Tensor] | None:
    df, length = K @ da, 1.0
    slack = _slack(value)
    for _ in range(60):
        new_a, new_f = a + length * da, f + length * df
        new = problem.value(new_f) - 0.5 * (new_a * new_f).sum()
        if torch.isfinite(new) and new >= value - slack:
            return new_a, new_f, new
        length *= 0.5
    return None


def _failure(residual: Tensor, steps: int, why: str) -> NotConvergedError:
    return NotConvergedError(
        f"Newton's method found no mode of the latent function: {why} after {steps} step(s), "
        f"gradient norm {float(residual.norm()):.3g}; a smaller outputscale, or inputs and counts "
        "of moderate size, may help"
    )

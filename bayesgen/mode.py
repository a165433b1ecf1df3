"""Laplace's approximation in function space: the mode of f given y under f ~ N(0, K), by Newton.

Nothing here inverts K: with a = K⁻¹f and R = (K + W⁻¹)⁻¹ every quantity stays finite where K is
singular, W = −∇∇ log p(y | f). Rasmussen & Williams (2006), sections 3.4 and 3.5.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from bayesgen import solvers
from bayesgen.evidence import Evidence
from bayesgen.likelihoods.likelihood import Likelihood, Separable

_MOST = 100
# A factorisation is worth some ten chord steps: it is made anew where a step leaves more of the
# gradient than this.
_SLOW = 0.3


class NotConvergedError(RuntimeError):
    """Newton's method found no mode; the message gives the last gradient norm."""


class Curvature(ABC):
    """W at one f, factorised: the Laplace posterior N(f, Σ), Σ = K − KRK, R = (K + W⁻¹)⁻¹."""

    @abstractmethod
    def times(self, v: Tensor) -> Tensor:
        """R v, for v of f's shape (n, C)."""

    @abstractmethod
    def logdet(self) -> Tensor:
        """log |I + KW|."""

    @abstractmethod
    def blocks(self) -> Tensor:
        """The diagonal blocks of R in the C latent functions, (C, n, n)."""

    def trace(self) -> Tensor:
        """tr R, ()."""
        return self.blocks().diagonal(dim1=-2, dim2=-1).sum()

    @abstractmethod
    def effective_dimension(self) -> Tensor:
        """tr ΣW."""

    @abstractmethod
    def variance(self) -> Tensor:
        """Posterior variances Σᵢᵢ at the inputs, (n,), or (n, C) of C coupled functions."""

    @abstractmethod
    def covariances(self, cross: Tensor, prior: Tensor) -> Tensor:
        """Posterior variances at m other points, (m,), or (m, C, C) of C coupled functions.

        Args:
            cross: k(x, x*), (n, m).
            prior: k(x*, x*) point by point, (m,).
        """

    @abstractmethod
    def determinant_slope(self) -> Tensor:
        """−½ ∂ log |I + KW|/∂f, (n, C): how the determinant moves with the mode."""


class Problem(Protocol):
    """log p(y | f) of one labelling, as Newton's method wants it."""

    def value(self, f: Tensor) -> Tensor:
        """log p(y | f), ()."""

    def gradient(self, f: Tensor) -> Tensor:
        """∇ log p(y | f), (n, C)."""

    def curvature(self, K: Tensor, f: Tensor) -> Curvature | None:
        """W at f; None where K⁻¹ + W is not positive definite there."""

    def majorant(self, K: Tensor, f: Tensor) -> Curvature:
        """A curvature with which a step cannot lose."""


@dataclass
class Mode:
    """A mode and Laplace's approximation there, of one labelling.

    Attributes:
        f: the mode, (n, C).
        a: K⁻¹f = ∇ log p(y | f), (n, C).
        curvature: W there.
        evidence: the Evidence, batch shape ().
        steps: Newton steps taken.
        factorisations: of (n, n) matrices, for each latent function.
        gradient_norm: ‖∇ log p(y | f) − a‖.
    """

    f: Tensor
    a: Tensor
    curvature: Curvature
    evidence: Evidence
    steps: int
    factorisations: int
    gradient_norm: float

    def covariance_gradient(self, K: Tensor) -> Tensor:
        """G = ∂ log Z/∂K, (n, n): ∂ log Z/∂θ = ⟨G, ∂K/∂θ⟩, the mode's own motion included.

            G = ½ Σ_c [a_c a_cᵀ − R_cc + u_c a_cᵀ + a_c u_cᵀ],  u = (I + WK)⁻¹ v,

        v the determinant's slope in f. Rasmussen & Williams (2006), eq. 5.22–5.24.
        """
        u = self._pulled(K)
        blocks = self.curvature.blocks()
        G = (blocks.sum(0) if len(blocks) > 1 else blocks[0]) * -0.5
        G.addmm_(self.a, self.a.mT, alpha=0.5)
        G.addmm_(u, self.a.mT, alpha=0.5)
        return G.addmm_(self.a, u.mT, alpha=0.5)

    def mode_weights(self, K: Tensor) -> Tensor:
        """Σ v, (n, C): how log Z answers to a change of ∇ log p(y | f) at a fixed f."""
        return K @ self._pulled(K)

    def _pulled(self, K: Tensor) -> Tensor:
        slope = self.curvature.determinant_slope()
        return slope - self.curvature.times(K @ slope)


def find(K: Tensor, problem: Problem, start: Tensor) -> Mode:
    """The mode of log p(y | f) − ½ fᵀK⁻¹f, and log Z there.

        log Z = log p(y | f) − ½ aᵀf − ½ log |I + KW|,
        fit = log p(y | f) − ½ tr ΣW,  complexity = ½ [log |I + KW| − tr ΣW + aᵀf].

    Newton with a line search. A factorisation is kept while steps with it still divide the
    gradient by three (chord steps, O(n²)); the last one is made at the mode itself.

    Args:
        K: prior covariance, (n, n).
        problem: the likelihood of the data.
        start: a to start from, (n, C); zeros where nothing is known.

    Raises:
        NotConvergedError: no mode within 100 steps; the last gradient norm is in the message.
    """
    eps = torch.finfo(K.dtype).eps
    wanted, enough = eps ** (2 / 3), 100 * eps**0.5
    a, f = _better_start(K, problem, start)
    value = problem.value(f) - 0.5 * (a * f).sum()
    curvature: Curvature | None = None
    factorisations, last, best = 0, math.inf, math.inf
    for step in range(_MOST):
        residual = problem.gradient(f) - a
        spread = K @ residual
        # ‖K^½ r‖: in units in which the prior has unit covariance.
        size = math.sqrt(max(float((residual * spread).sum()), 0.0))
        if size < wanted or (size < enough and size > 0.5 * best):  # or no digits are left
            break
        best = min(best, size)
        if curvature is None or size > _SLOW * last:
            curvature = problem.curvature(K, f)
            factorisations += 1
        tried = curvature or problem.majorant(K, f)
        moved = _line_search(K, problem, a, f, value, residual - tried.times(spread))
        if moved is None and curvature is not None:
            tried = problem.majorant(K, f)
            factorisations += 1
            moved = _line_search(K, problem, a, f, value, residual - tried.times(spread))
            curvature = None
        if moved is None:
            if size < enough:
                break
            raise _failure(residual, step, "no step along Newton's direction gains")
        a, f, value = moved
        last = size
    else:
        raise _failure(residual, _MOST, "its steps ran out")
    final = problem.curvature(K, f)
    if final is None:
        raise _failure(residual, step, "it stands where the curvature is not positive definite")
    return _mode(K, problem, a, f, final, size, step, factorisations + 1, float(residual.norm()))


def _mode(
    K: Tensor,
    problem: Problem,
    a: Tensor,
    f: Tensor,
    curvature: Curvature,
    size: float,
    steps: int,
    factorisations: int,
    gradient_norm: float,
) -> Mode:
    n = len(f)
    dof, logdet, pull = curvature.effective_dimension(), curvature.logdet(), (a * f).sum()
    fit = problem.value(f) - 0.5 * dof
    complexity = 0.5 * (logdet - dof + pull)
    trace = curvature.trace()
    largest = solvers.largest_eigenvalue(lambda v: K @ v, K.new_ones(n, 1))
    rounding = solvers.rounding_norm(n, largest, K.dtype)
    slope = curvature.determinant_slope()
    pulled = max(float((slope * (K @ slope)).sum()), 0.0) ** 0.5
    evidence = Evidence(
        fit,
        complexity,
        n,
        dof,
        error=0.5 * rounding * (a.square().sum() + trace) + size * (size + pulled),
        method="Laplace, by Newton in function space",
    )
    return Mode(f, a, curvature, evidence, steps, factorisations, gradient_norm)


def _better_start(K: Tensor, problem: Problem, start: Tensor) -> tuple[Tensor, Tensor]:
    """The given start, or zero where that is better."""
    zero = torch.zeros_like(start)
    if not start.any():
        return zero, zero
    f = K @ start
    here = problem.value(f) - 0.5 * (start * f).sum()
    return (start, f) if here > problem.value(zero) else (zero, zero)


def _line_search(
    K: Tensor, problem: Problem, a: Tensor, f: Tensor, value: Tensor, da: Tensor
) -> tuple[Tensor, Tensor, Tensor] | None:
    df, length = K @ da, 1.0
    slack = 1e2 * torch.finfo(value.dtype).eps * (1 + value.abs())
    for _ in range(30):
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


# --------------------------------------------------------------------------- separable likelihoods


class SeparableProblem:
    """One output, y (n, 1), under a likelihood with one latent value behind each observation."""

    def __init__(self, likelihood: Separable, y: Tensor) -> None:
        self.likelihood, self.y = likelihood, y

    def value(self, f: Tensor) -> Tensor:
        """See `Problem`."""
        return self.likelihood.element(self.y, f).sum()

    def gradient(self, f: Tensor) -> Tensor:
        """See `Problem`."""
        return self.likelihood.derivatives(self.y, f).first

    def curvature(self, K: Tensor, f: Tensor) -> Curvature | None:
        """See `Problem`."""
        at = self.likelihood.derivatives(self.y, f)
        return _Diagonal.of(K, -at.second[:, 0], at.third[:, 0])

    def majorant(self, K: Tensor, f: Tensor) -> Curvature:
        """See `Problem`."""
        W = self.likelihood.curvature(self.y, f)[:, 0]
        result = _Diagonal.of(K, W, torch.zeros_like(W))
        assert result is not None
        return result


class _Diagonal(Curvature):
    """A diagonal W = W₊ − W₋, by the Cholesky factor of I + W₊^½ K W₊^½.

    Where W is negative (likelihoods that are not log-concave) Σ⁻¹ = Σ₊⁻¹ − W₋, and the small
    matrix M = I − W₋^½ Σ₊ W₋^½ over those points says whether there is a Σ at all.
    """

    def __init__(self, K: Tensor, W: Tensor, third: Tensor) -> None:
        self.K, self.W, self.third = K, W, third
        self.root = W.clamp(min=0).sqrt()
        self.factor = solvers.cholesky(self._matrix)
        self.negative = (W < 0).nonzero()[:, 0]
        self.R: Tensor | None = None
        self._logdet: Tensor | None = None

    @classmethod
    def of(cls, K: Tensor, W: Tensor, third: Tensor) -> _Diagonal | None:
        result = cls(K, W, third)
        return result if not len(result.negative) or result._correct() else None

    def _matrix(self) -> Tensor:
        matrix = self.K * self.root[:, None]
        matrix.mul_(self.root).diagonal().add_(1)
        return matrix

    def _correct(self) -> bool:
        """V = Σ₊W₋^½ and K⁻¹V over the points with W < 0; whether M is positive definite."""
        weight = (-self.W[self.negative]).sqrt()
        unit = self.K.new_zeros(len(self.K), len(weight))
        unit[self.negative, torch.arange(len(weight))] = weight
        self.kernel_v = unit - self._times_positive(self.K @ unit)
        self.v = self.K @ self.kernel_v
        M = torch.eye(len(weight), dtype=self.K.dtype, device=self.K.device)
        M = M - weight[:, None] * self.v[self.negative]
        self.lower, info = torch.linalg.cholesky_ex(0.5 * (M + M.mT))
        return not int(info)

    def _times_positive(self, v: Tensor) -> Tensor:
        if self.R is not None:  # the factor is spent
            return self.R @ v
        root = self.root[:, None]
        return root * self.factor.solve(root * v)

    def times(self, v: Tensor) -> Tensor:
        result = self._times_positive(v)
        if len(self.negative):
            inner = torch.cholesky_solve(self.kernel_v.mT @ v, self.lower)
            result = result - self.kernel_v @ inner
        return result

    def logdet(self) -> Tensor:
        result = self._logdet_positive
        if len(self.negative):
            result = result + 2 * self.lower.diagonal().log().sum()
        return result

    @property
    def _logdet_positive(self) -> Tensor:
        if self._logdet is None:
            self._logdet = self.factor.logdet()
        return self._logdet

    def _positive(self) -> tuple[Tensor, Tensor]:
        """R₊ = W₊^½ B⁻¹ W₊^½, over the factor's own memory, and the diagonal of B⁻¹."""
        if self.R is None:
            _ = self._logdet_positive
            inverse = self.factor.into_inverse()
            self.diagonal = inverse.diagonal().clone()
            self.R = inverse.mul_(self.root[:, None]).mul_(self.root)
        return self.R, self.diagonal

    def blocks(self) -> Tensor:
        R, _ = self._positive()
        if len(self.negative):
            half = torch.linalg.solve_triangular(self.lower, self.kernel_v.mT, upper=False)
            R = R - half.mT @ half
        return R[None]

    def effective_dimension(self) -> Tensor:
        if not len(self.negative):
            return len(self.K) - self._positive()[1].sum()
        return (self.W * self.variance()).sum()

    def determinant_slope(self) -> Tensor:
        # ∂W/∂f = −third, hence −½ tr Σ ∂W/∂f = ½ Σᵢᵢ third.
        return (0.5 * self.variance() * self.third)[:, None]

    def covariances(self, cross: Tensor, prior: Tensor) -> Tensor:
        """See `Curvature.covariances`."""
        return (prior - (cross * self.times(cross)).sum(0)).clamp(min=0)

    def variance(self) -> Tensor:
        """Σᵢᵢ, (n,): (1 − (B⁻¹)ᵢᵢ)/W, and directly where W is too small for that."""
        _, diagonal = self._positive()
        positive = self.W.clamp(min=0)
        variance = (1 - diagonal) / positive.clamp(min=torch.finfo(self.K.dtype).tiny)
        # Where |third| is of W's size or below, what cancels in 1 − B⁻¹ is multiplied away again.
        direct = (self.third.abs() > 1e3 * positive).nonzero()[:, 0]
        if len(direct):
            columns = self.K[:, direct]
            pulled = self._times_positive(columns)
            variance[direct] = self.K.diagonal()[direct] - (columns * pulled).sum(0)
        if len(self.negative):
            half = torch.linalg.solve_triangular(self.lower, self.v.mT, upper=False)
            variance = variance + half.square().sum(0)
        return variance


# --------------------------------------------------------------------------- softmax


class SoftmaxProblem:
    """One labelling, y (n, C) one-hot, under a softmax of C latent functions."""

    def __init__(self, y: Tensor) -> None:
        self.y = y

    def value(self, f: Tensor) -> Tensor:
        """See `Problem`."""
        return (self.y * f).sum() - f.logsumexp(-1).sum()

    def gradient(self, f: Tensor) -> Tensor:
        """See `Problem`."""
        return self.y - f.softmax(-1)

    def curvature(self, K: Tensor, f: Tensor) -> Curvature:
        """See `Problem`; W = diag(π) − ΠΠᵀ is never negative."""
        return _Softmax(K, f.softmax(-1))

    def majorant(self, K: Tensor, f: Tensor) -> Curvature:
        """See `Problem`."""
        return self.curvature(K, f)


class _Softmax(Curvature):
    """W = diag(π) − ΠΠᵀ by one Cholesky factorisation for each class and one for their sum.

    With E_c = (K + D_c⁻¹)⁻¹ and S = Σ E_c: R = E − E 1 S⁻¹ 1ᵀ E and
    |I + KW| = |S| Π_c |I + K D_c|. Rasmussen & Williams (2006), Algorithm 3.3, whose printed
    determinant lacks |S|.
    """

    def __init__(self, K: Tensor, probabilities: Tensor) -> None:
        self.K, self.probabilities = K, probabilities
        n, C = probabilities.shape
        self._own: Tensor | None = None
        self.E = K.new_empty(C, n, n)
        self.log_determinants = K.new_zeros(())
        for c, p in enumerate(probabilities.mT):
            root = p.sqrt()

            def matrix(root: Tensor = root) -> Tensor:
                result = K * root[:, None]
                result.mul_(root).diagonal().add_(1)
                return result

            factor = solvers.cholesky(matrix)
            self.log_determinants += factor.logdet()
            self.E[c] = factor.into_inverse()
            self.E[c].mul_(root[:, None]).mul_(root)
        self.sum = torch.linalg.cholesky(self.E.sum(0))

    def times(self, v: Tensor) -> Tensor:
        Ev = torch.einsum("cij,jc->ic", self.E, v)
        shared = torch.cholesky_solve(Ev.sum(1, keepdim=True), self.sum)
        return Ev - (self.E @ shared)[..., 0].mT

    def logdet(self) -> Tensor:
        return self.log_determinants + 2 * self.sum.diagonal().log().sum()

    def blocks(self) -> Tensor:
        return torch.stack([E - self._half(E).mT @ self._half(E) for E in self.E])

    def _half(self, matrix: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(self.sum, matrix, upper=False)

    def effective_dimension(self) -> Tensor:
        p, cov = self.probabilities, self.covariances(self.K, self.K.diagonal())
        return (cov.diagonal(dim1=-2, dim2=-1) * p).sum() - torch.einsum("ia,iab,ib", p, cov, p)

    def determinant_slope(self) -> Tensor:
        # h = tr Σᵢ W(f); ∂h/∂π = diag Σᵢ − 2Σᵢπ, ∂π_a/∂f_c = π_a (δ_ac − π_c).
        p, cov = self.probabilities, self.covariances(self.K, self.K.diagonal())
        q = cov.diagonal(dim1=-2, dim2=-1) - 2 * torch.einsum("iab,ib->ia", cov, p)
        return -0.5 * p * (q - (p * q).sum(-1, keepdim=True))

    def variance(self) -> Tensor:
        """See `Curvature.variance`."""
        return self.covariances(self.K, self.K.diagonal()).diagonal(dim1=-2, dim2=-1)

    def covariances(self, cross: Tensor, prior: Tensor) -> Tensor:
        """See `Curvature.covariances`."""
        if cross is self.K and self._own is not None:
            return self._own
        C = len(self.E)
        halves, own = [], []
        for E in self.E:
            T = E @ cross
            own.append(prior - (cross * T).sum(0))
            halves.append(self._half(T))
        result = torch.stack(
            [torch.stack([(halves[a] * halves[b]).sum(0) for b in range(C)], -1) for a in range(C)],
            -2,
        )
        result = result + torch.diag_embed(torch.stack(own, -1))
        if cross is self.K:
            self._own = result
        return result


def problems(likelihood: Likelihood, y: Tensor) -> list[Problem]:
    """The independent problems that one labelling y, in its inner form (n, C), falls into."""
    if isinstance(likelihood, Separable):
        return [SeparableProblem(likelihood, column[:, None]) for column in y.mT]
    return [SoftmaxProblem(y)]

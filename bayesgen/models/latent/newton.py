"""Laplace's approximation in function space: Newton's method for the mode of f given y.

The prior is f ~ N(0, K), and W = −∇∇ log p(y | f). K is never inverted: written in a = K⁻¹f and
R = (K + W⁻¹)⁻¹, every quantity stays finite where K is singular.

Source: Rasmussen & Williams (2006), sections 3.4 and 3.5.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from bayesgen import solvers
from bayesgen._internal.words import plural
from bayesgen.errors import NotConvergedError
from bayesgen.evidence import Evidence

# Largest number of steps.
_MOST = 200
# Number of steps without a gain above rounding after which the search ends where the gradient norm
# is small; the error of the evidence includes what is left of the gradient.
_STALLED, _SMALL = 3, 0.1
# A factorisation costs about ten chord steps. It is recomputed where a step leaves more than this
# fraction of the gradient.
_SLOW = 0.3
# Newton decrement above which longer steps than Newton's are tried.
_FAR = 1.0
# Share of the precision that negative curvature must leave, for a Gaussian at the mode to have a
# meaning.
LEAST_DEFINITE = 0.1
# Two modes are one where each latent value differs by less than this many posterior standard
# deviations.
_SAME = 1e-3


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

    def definiteness(self) -> float:
        """Smallest share of the precision that negative curvature leaves, in (0, 1]; 1 if none.

        It is the smallest eigenvalue of I − W₋^½ Σ₊ W₋^½, where Σ₊⁻¹ is the precision without the
        negative part W₋ of W. Where it tends to 0 the mode disappears in a saddle point, and
        Laplace's log Z tends to ∞.
        """
        return 1.0

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

    @property
    def log_concave(self) -> bool:
        """Whether log p(y | f) is concave in f, so that there is one mode."""

    def starts(self, K: Tensor) -> list[Tensor]:
        """Values of a = K⁻¹f from which Newton's method may start, (n, C) each."""

    def restart(self, K: Tensor, f: Tensor, a: Tensor) -> Tensor:
        """A value of a to start from, near the mode f with solution a under another covariance."""

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
    """The mode of log p(y | f) − ½ fᵀK⁻¹f near a start, and Laplace's log Z at it.

        log Z = log p(y | f) − ½ aᵀf − ½ log |I + KW|,
        fit = log p(y | f) − ½ tr ΣW,  complexity = ½ [log |I + KW| − tr ΣW + aᵀf].

    The method is Newton's with a line search. It ends where the Newton decrement
    √(rᵀ(K⁻¹ + W)⁻¹r), with the gradient r, is zero to rounding: its square is twice the gain that
    is left, in nats, whatever the units of f. A factorisation is kept as long as each step with it
    divides the decrement by about three (chord steps, O(n²) each). The last factorisation is at
    the mode.

    Args:
        K: prior covariance, (n, n).
        problem: log likelihood of the data.
        start: value of a = K⁻¹f to start from, (n, C); zeros start at the prior mean.

    Raises:
        NotConvergedError: no mode was found within 200 steps (the message gives the last gradient
            norm), or rounding makes the complexity negative.

    Source: Boyd & Vandenberghe (2004), section 9.5, for the decrement.
    """
    eps = torch.finfo(K.dtype).eps
    # The last step, at the end, squares the decrement.
    wanted, enough = eps**0.5, 100 * eps**0.5
    prior = _Prior(K)
    a, f = start, K @ start
    value = problem.value(f) - 0.5 * (a * f).sum()
    curvature: LatentCurvature | None = None
    last, best, stalled = math.inf, math.inf, 0
    for step in range(_MOST):
        residual = problem.gradient(f) - a
        spread = K @ residual
        fresh = curvature is None
        if curvature is None:
            curvature = problem.curvature(K, f)
        move = _Step.of(K, curvature or problem.majorant(K, f), residual, spread)
        if not fresh and move.decrement > _SLOW * last:
            fresh, curvature = True, problem.curvature(K, f)
            move = _Step.of(K, curvature or problem.majorant(K, f), residual, spread)
        size = move.decrement
        # The second condition holds where rounding prevents further progress.
        if size < wanted or (size < enough and size > 0.5 * best):
            break
        if stalled >= _STALLED and size < _SMALL:
            break
        best = min(best, size)
        slack = prior.slack(a, value)
        moved = _line_search(problem, a, f, value, move, slack)
        if moved is None and curvature is not None:
            move = _Step.of(K, problem.majorant(K, f), residual, spread)
            moved = _line_search(problem, a, f, value, move, slack)
            curvature = None
        if moved is None:
            if size < max(enough, float(slack) ** 0.5):
                break
            raise _failure(residual, step, "no step along Newton's direction gains")
        stalled = stalled + 1 if moved[2] - value <= slack else 0
        a, f, value = moved
        last = size
    else:
        raise _failure(residual, _MOST, "its steps ran out")
    final = problem.curvature(K, f)
    if final is None:
        raise _failure(residual, step, "it stands where the curvature is not positive definite")
    return _mode(prior, problem, a, f, final, residual, step)


def best(K: Tensor, problem: LatentProblem, starts: Sequence[Tensor]) -> tuple[Mode, int]:
    """The mode of largest Laplace evidence that is found from some starts.

    Of a log-concave likelihood, only the start of largest log posterior is used.

    log p(y | f) of a likelihood that is not log-concave may have several modes. Each mode's
    Laplace log Z is the logarithm of the posterior mass around it, so that the largest is the best
    approximation of the integral by one Gaussian. The highest mode may hold less mass, if it is
    narrow. A mode that is about to disappear in a saddle point has an evidence without meaning
    (see `LatentCurvature.definiteness`), and is used only where there is no other.

    Args:
        K, problem: as in `find`.
        starts: values of a = K⁻¹f, (n, C) each, at least one.

    Returns:
        The mode, and the number of different modes.

    Raises:
        NotConvergedError: no mode was found from any start.
    """
    if problem.log_concave:
        return find(K, problem, promising(K, problem, starts)), 1
    found: list[Mode] = []
    failure: NotConvergedError | None = None
    for start in starts:
        try:
            mode = find(K, problem, start)
        except NotConvergedError as err:
            failure = err
            continue
        if not any(_equal(mode, other) for other in found):
            found.append(mode)
    if not found:
        assert failure is not None
        raise failure
    firm = [m for m in found if m.curvature.definiteness() >= LEAST_DEFINITE] or found
    return max(firm, key=lambda m: float(m.evidence.log_marginal_likelihood)), len(found)


def promising(K: Tensor, problem: LatentProblem, starts: Sequence[Tensor]) -> Tensor:
    """The start with the largest log p(y | f) − ½ fᵀK⁻¹f, among values of a = K⁻¹f."""
    values = []
    for a in starts:
        f = K @ a
        value = float(problem.value(f) - 0.5 * (a * f).sum())
        values.append(value if math.isfinite(value) else -math.inf)
    return starts[max(range(len(values)), key=values.__getitem__)]


class _Prior:
    """A prior covariance with the size of its rounding errors.

    Attributes:
        K: prior covariance, (n, n).
    """

    def __init__(self, K: Tensor) -> None:
        self.K, self.eps = K, torch.finfo(K.dtype).eps

    @cached_property
    def norm(self) -> float:
        """Spectral norm of the rounding error of K."""
        largest = solvers.largest_eigenvalue(lambda v: self.K @ v, self.K)
        return solvers.rounding_norm(len(self.K), largest, self.K.dtype)

    @cached_property
    def rounded(self) -> float:
        """Rounding error of an entry of K, of sums of n of them."""
        return float(len(self.K) ** 0.5 * self.eps * self.K.diagonal().max())

    def form(self, a: Tensor) -> Tensor:
        """Rounding error of the quadratic form aᵀKa, ().

        Independent errors of relative size eps in the entries and in sums of n of them give
        √n · eps · (Σ K_ij² a_i² a_j²)^½.
        """
        # K a aᵀ has no unit, so that its squares do not overflow.
        sizes = [torch.linalg.norm(self.K * c * c[:, None]) for c in a.mT]
        total = torch.stack(sizes).sum()
        return len(a) ** 0.5 * self.eps * total

    def slack(self, a: Tensor, value: Tensor) -> Tensor:
        """Change of the log posterior at f = Ka that rounding may cause."""
        form = self.rounded * a.square().sum()  # at least `form`, in O(n)
        return 1e2 * self.eps * (1 + value.abs()) + form


@dataclass(frozen=True)
class _Step:
    """A Newton step.

    Attributes:
        a, f: changes of a and of f = Ka, (n, C).
        decrement: Newton decrement, the square root of the derivative along the step.
    """

    a: Tensor
    f: Tensor
    decrement: float

    @classmethod
    def of(cls, K: Tensor, curvature: LatentCurvature, residual: Tensor, spread: Tensor) -> _Step:
        """The step (K⁻¹ + W)⁻¹r for the gradient r, with `spread` = Kr."""
        a = residual - curvature.times(spread)
        f = K @ a
        return cls(a, f, math.sqrt(max(float((residual * f).sum()), 0.0)))


def _mode(
    prior: _Prior,
    problem: LatentProblem,
    a: Tensor,
    f: Tensor,
    curvature: LatentCurvature,
    residual: Tensor,
    steps: int,
) -> Mode:
    n, K = len(f), prior.K
    # The curvature serves one more step.
    left = _Step.of(K, curvature, residual, K @ residual)
    taken = 1.0 if left.decrement < _SMALL else 0.0
    a, f = a + taken * left.a, f + taken * left.f
    dof, logdet, pull = curvature.effective_dimension(), curvature.logdet(), (a * f).sum()
    fit = problem.value(f) - 0.5 * dof
    slope = curvature.determinant_slope()
    moved = (slope * left.f).sum()
    complexity = 0.5 * (logdet - dof + pull) - taken * moved
    trace = curvature.trace()
    gradient_norm = float((problem.gradient(f) - a).norm())
    if not complexity >= -1e-6 * (1 + abs(float(fit))):  # a divergence; NaN included
        raise NotConvergedError(
            "the prior covariance is too ill-conditioned for this likelihood: rounding leaves the "
            f"complexity at {float(complexity):.3g} nats, gradient norm {gradient_norm:.3g}; use a "
            "smaller outputscale or a larger noise"
        )
    spread = K @ slope
    # The last step changed log p by half the squared decrement, and the determinant by its slope
    # along the step.
    remains = left.decrement**2 + 2 * float(moved.abs())
    evidence = Evidence(
        fit,
        complexity,
        n,
        dof,
        error=0.5 * (prior.form(a) + prior.norm * trace) + remains,
        method="Laplace, by Newton in function space",
    )
    pulled = slope - curvature.times(spread)
    return Mode(f, a, curvature, evidence, steps, gradient_norm, pulled)


def _equal(one: Mode, other: Mode) -> bool:
    """Whether two modes are one, compared with the posterior standard deviations."""
    sd = one.curvature.variance().clamp(min=0).sqrt().reshape(one.f.shape)
    rounding = torch.finfo(sd.dtype).eps ** 0.5 * one.f.abs().max()
    return bool(((one.f - other.f).abs() <= _SAME * sd + rounding).all())


def _line_search(
    problem: LatentProblem, a: Tensor, f: Tensor, value: Tensor, move: _Step, slack: Tensor
) -> tuple[Tensor, Tensor, Tensor] | None:
    """The best of some lengths of a step, as (a, f, value), or None where none gains.

    The length is halved until the value does not fall, and further as long as the value rises. Far
    from the mode longer steps are tried too, because the steps of a likelihood with an exponential
    rate have size one where the rate is too large.
    """

    def at(length: float) -> tuple[Tensor, Tensor, Tensor] | None:
        new_a, new_f = a + length * move.a, f + length * move.f
        new = problem.value(new_f) - 0.5 * (new_a * new_f).sum()
        return (new_a, new_f, new) if torch.isfinite(new) else None

    length, tried = 1.0, at(1.0)
    far = move.decrement > _FAR
    if far and tried is not None and tried[2] > value:
        while (further := at(2 * length)) is not None and further[2] > tried[2]:
            length, tried = 2 * length, further
        if length > 1:
            return tried
    for _ in range(60):
        if tried is not None and tried[2] >= value - slack:
            break
        length *= 0.5
        tried = at(length)
    else:
        return None
    while far and (shorter := at(0.5 * length)) is not None and shorter[2] > tried[2]:
        length, tried = 0.5 * length, shorter
    return tried


def _failure(residual: Tensor, steps: int, why: str) -> NotConvergedError:
    return NotConvergedError(
        f"Newton's method found no mode of the latent function: {why} after "
        f"{plural(steps, 'step')}, "
        f"gradient norm {float(residual.norm()):.3g}; a smaller outputscale, or inputs and counts "
        "of moderate size, may help"
    )

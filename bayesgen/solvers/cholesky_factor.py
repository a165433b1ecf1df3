"""Cholesky factorisation of one covariance matrix, with the evidence and gradient it gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bayesgen._internal.user_warning import warn
from bayesgen.evidence import Evidence, EvidenceParts
from bayesgen.solvers.eigen import largest_eigenvalue, logdet_factor, rounding_norm

# Rows processed at a time in a pass over an (n, n) matrix.
_BLOCK = 256
# Columns computed at a time when an inverse is built from matrix products.
_PANEL = 1024
# Up to this order, torch inverts a matrix faster than SciPy does.
_SMALL = 256
# Up to this order, an error message includes the smallest eigenvalue.
_LOOK = 4000


@dataclass(frozen=True)
class Factor:
    """Cholesky factor of a covariance matrix A = L Lᵀ, with the jitter that was needed.

    Attributes:
        lower: L, (n, n).
        jitter: variance added to the diagonal of A, usually 0.
    """

    lower: Tensor
    jitter: float

    def solve(self, y: Tensor) -> Tensor:
        """Solution A⁻¹y for y of shape (n, m), without copying L as `cholesky_solve` does."""
        half = torch.linalg.solve_triangular(self.lower, y, upper=False)
        return torch.linalg.solve_triangular(self.lower.mT, half, upper=True)

    def logdet(self) -> Tensor:
        """Log-determinant log|A|, a scalar."""
        return 2 * self.lower.diagonal().log().sum()

    def norm(self) -> float:
        """Largest eigenvalue of A, estimated from below by power iterations."""
        return largest_eigenvalue(lambda v: self.lower @ (self.lower.mT @ v), self.lower)

    def inverse(self) -> Tensor:
        """The inverse A⁻¹, (n, n)."""
        return torch.cholesky_inverse(self.lower)

    def into_inverse(self) -> Tensor:
        """Compute A⁻¹ in the factor's own memory; the factor cannot be used afterwards.

        On a CPU, large matrices are inverted by SciPy's `potri`, which was measured to be four
        times as fast as torch. For small ones the overhead of its threads would exceed the gain.
        """
        import scipy.linalg

        small = len(self.lower) <= _SMALL
        if small or self.lower.device.type != "cpu" or not self.lower.mT.is_contiguous():
            return torch.cholesky_inverse(self.lower, out=self.lower)
        inverse = self.lower.detach()
        (potri,) = scipy.linalg.get_lapack_funcs(("potri",), (inverse.numpy(),))
        _, info = potri(inverse.numpy(), lower=1, overwrite_c=1)
        if info:
            raise ValueError(f"the Cholesky factor has a zero on its diagonal, at {info - 1}")
        n = len(inverse)
        for start in range(0, n, _BLOCK):  # mirror: potri fills only the lower triangle
            stop = min(n, start + _BLOCK)
            corner = inverse[start:stop, start:stop]
            corner.copy_(corner.tril() + corner.tril(-1).mT)
            inverse[start:stop, stop:] = inverse[stop:, start:stop].mT
        return inverse

    def into_inverse_diagonal(self) -> Tensor:
        """Diagonal of A⁻¹, (n,), in the factor's own memory; the factor cannot be used afterwards.

        On a GPU, only L⁻¹ is computed, in panels from the last one, by matrix products, because
        torch's inverse there takes three matrices of order n.
        """
        if self.lower.device.type == "cpu":
            return self.into_inverse().diagonal()
        return inverse_triangle(self.lower, _PANEL).norm(dim=0).square()


def inverse_triangle(lower: Tensor, panel: int) -> Tensor:
    """Replace a lower triangular matrix L (n, n) by L⁻¹, with zeros above the diagonal.

    Columns are processed in panels: with L = [[A, 0], [B, C]], L⁻¹ = [[A⁻¹, 0], [−C⁻¹BA⁻¹, C⁻¹]].

    Example:
        >>> L = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [3.0, 1.0, 4.0]])
        >>> bool(torch.allclose(inverse_triangle(L.clone(), 2) @ L, torch.eye(3)))
        True
    """
    n = len(lower)
    for start in reversed(range(0, n, panel)):
        stop = min(start + panel, n)
        corner, below = lower[start:stop, start:stop], lower[stop:, start:stop]
        one = torch.eye(stop - start, dtype=lower.dtype, device=lower.device)
        inverse = torch.linalg.solve_triangular(corner, one, upper=False)
        below.copy_(lower[stop:, stop:] @ (below @ inverse).neg_())
        corner.copy_(inverse)
    return lower


def cholesky(covariance: Tensor | Callable[[], Tensor]) -> Factor:
    """Cholesky factor of a covariance, with a jitter where rounding has made it indefinite.

    A tensor is copied and not changed. A function is called once for each attempt, and the factor
    is computed in the memory of the matrix that it returns, without a copy. If a factorisation
    fails, the next attempt adds a multiple of the rounding level (n · eps · mean diagonal) to the
    diagonal, ten times larger at each of four attempts. The amount is returned, with a warning.

    Args:
        covariance: symmetric, (n, n), or a function that returns a new such matrix at each call.

    Raises:
        TypeError: neither a floating-point tensor nor a function that returns one.
        ValueError: the matrix is not square, or indefinite beyond rounding; the function returned
            different values at a later call, as when it returns the same matrix twice.

    Example:
        >>> cholesky(torch.eye(2, dtype=torch.float64)).jitter
        0.0
    """
    build = covariance.clone if isinstance(covariance, Tensor) else covariance
    if not callable(build):
        raise TypeError(
            "covariance must be a tensor (n, n) or a function that returns one, got "
            f"{type(covariance).__name__}"
        )
    jitter, first = 0.0, None
    for attempt in range(5):
        matrix = build()
        if first is None:
            _check_square(matrix)
        first = _same_diagonal(matrix, first)
        floor = matrix.shape[-1] * torch.finfo(matrix.dtype).eps * float(matrix.diagonal().mean())
        if attempt:
            jitter = floor * 10.0 ** (attempt - 1)
            matrix.diagonal().add_(jitter)
        # The transpose of a row-major matrix is column-major, as LAPACK needs to factorise in
        # place.
        lower = matrix.mT
        info = torch.empty((), dtype=torch.int32, device=matrix.device)
        torch.linalg.cholesky_ex(lower, out=(lower, info))
        if int(info) == 0:
            if jitter:
                warn(
                    f"the covariance is singular to rounding; a jitter of {jitter:.2g} was added "
                    "to its diagonal (see Evidence.jitter)"
                )
            return Factor(lower, jitter)
    pivot, matrix = int(info), build()
    _same_diagonal(matrix, first)
    told = f"; it has {smallest(matrix)}" if len(matrix) <= _LOOK else ""
    raise ValueError(
        "the covariance must be positive definite: its Cholesky factorisation fails at pivot "
        f"{pivot} of {matrix.shape[-1]} even with {jitter:.2g} added to the diagonal{told}; "
        "use a larger noise, or a kernel that is positive semi-definite"
    )


def _check_square(matrix: Tensor) -> None:
    if not isinstance(matrix, Tensor) or not matrix.is_floating_point():
        kind = matrix.dtype if isinstance(matrix, Tensor) else type(matrix).__name__
        raise TypeError(f"covariance must be a floating-point tensor, got {kind}")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise ValueError(f"covariance must have shape (n, n), n ≥ 1, got {tuple(matrix.shape)}")


def _same_diagonal(matrix: Tensor, first: Tensor | None) -> Tensor:
    """The diagonal of a matrix, after checking that it equals that of the first attempt."""
    diagonal = matrix.diagonal().clone()
    slack = 100 * torch.finfo(matrix.dtype).eps  # a GPU may sum in another order
    if first is not None and not torch.allclose(diagonal, first, rtol=slack, atol=0):
        raise ValueError(
            "covariance must be a function that returns a new matrix of the same values at each "
            "call, got other values on the diagonal: it returned a matrix that was factorised in "
            "place; pass the matrix itself, which is copied"
        )
    return diagonal


def smallest(matrix: Tensor) -> str:
    """Text with the smallest eigenvalue of a symmetric matrix and the rounding level by dtype."""
    values = torch.linalg.eigvalsh(matrix.double())
    low, high, n = float(values[0]), float(values[-1]), len(matrix)
    single, double = (rounding_norm(n, high, kind) for kind in (torch.float32, torch.float64))
    return (
        f"a smallest eigenvalue of {low:.3g}, where {single:.2g} is rounding in float32 and "
        f"{double:.2g} in float64"
    )


def evidence(factor: Factor, y: Tensor, noise: Tensor) -> tuple[Evidence, Tensor]:
    """Exact Evidence of targets y under N(0, A), A = sK + diag(σ²), and A⁻¹y.

    The factor cannot be used afterwards. See `evidence_parts` for the formulas and arguments.
    """
    parts, alpha = evidence_parts(factor, y, noise)
    return parts.evidence(), alpha


def evidence_parts(factor: Factor, y: Tensor, noise: Tensor) -> tuple[EvidenceParts, Tensor]:
    """Parts of the exact evidence of y under N(0, A), A = sK + diag(σ²), and A⁻¹y.

    The factor cannot be used afterwards.

    With α = A⁻¹y, Λ = diag(σ²) and N_eff = n − tr(A⁻¹Λ) for each of the C outputs:

        fit        = −½ [Σ log(2πσ²) + αᵀΛα + N_eff]
        complexity = ½ [log|A| − Σ log σ² − N_eff + αᵀ(y − Λα)]

    Source: Rasmussen & Williams (2006), eq. 2.30, split by the equality of the evidence lower
    bound; the KL is between the posterior and the prior of f at the training inputs.

    Args:
        factor: Cholesky factor of A.
        y: targets, (B, n, C).
        noise: noise variances σ², () or (n,).

    Returns:
        The parts, of batch shape (B,), and α of shape (B, n, C).
    """
    batch, n, outputs = y.shape
    columns = y.movedim(0, 1).reshape(n, batch * outputs)
    alpha = factor.solve(columns).reshape(n, batch, outputs).movedim(0, 1)
    logdet, norm = factor.logdet(), factor.norm()
    diagonal = factor.into_inverse_diagonal()
    variance = (noise + factor.jitter).expand(n)
    dof = n - (diagonal * variance).sum()
    residual = variance[:, None] * alpha
    log_noise = variance.log().sum()
    pull = (alpha * residual).sum((-2, -1))
    fit = -0.5 * (outputs * (log_noise + n * math.log(2 * math.pi) + dof) + pull)
    complexity = 0.5 * (
        outputs * (logdet - log_noise - dof) + (alpha * (y - residual)).sum((-2, -1))
    )
    # A differs from the matrix that was factorised by rounding and by the jitter, but A ⪰ σ²I.
    t = (rounding_norm(n, norm, y.dtype) + factor.jitter) / noise.min()
    off = noise.min() * t
    error = (
        0.5
        * off
        * (outputs * diagonal.sum() * logdet_factor(t) + (1 + t) * (alpha * alpha).sum((-2, -1)))
    )
    # Rounding may make a divergence negative, within the error; the evidence is not changed.
    least = torch.where(complexity < -error, complexity, complexity.clamp(min=0))
    fit, complexity = fit + (least - complexity), least
    jitter = torch.full_like(fit, factor.jitter)
    dimension = (outputs * dof).expand(batch)
    method = "exact, by Cholesky"
    return EvidenceParts(fit, complexity, dimension, error, jitter, n, method), alpha


@dataclass(frozen=True)
class Sensitivity:
    """The log marginal likelihood at one setting, and the terms of its gradient.

    Attributes:
        value: log N(y; 0, A) summed over outputs, nats.
        gradient: G = ∂ log p / ∂A = ½ (ααᵀ − C A⁻¹), (n, n); for any parameter θ of A,
            ∂ log p / ∂θ = ⟨G, ∂A/∂θ⟩.
        data_term: ⟨G, A⟩ = ½ (yᵀα − nC).
    """

    value: Tensor
    gradient: Tensor
    data_term: Tensor


def sensitivity(factor: Factor, y: Tensor) -> Sensitivity:
    """Log marginal likelihood of y (n, C) under N(0, A), and its derivative in A.

    The factor cannot be used afterwards. For any number of outputs and parameters this takes one
    factorisation and one inverse, in one (n, n) array.

    Source: Rasmussen & Williams (2006), eq. 5.9.

    Example:
        >>> y = torch.ones(2, 1, dtype=torch.float64)
        >>> s = sensitivity(cholesky(torch.eye(2, dtype=torch.float64)), y)
        >>> round(float(s.value), 4)
        -2.8379
    """
    n, outputs = y.shape
    alpha = factor.solve(y)
    quadratic = (y * alpha).sum()
    value = -0.5 * (quadratic + outputs * (factor.logdet() + n * math.log(2 * math.pi)))
    gradient = factor.into_inverse()
    torch.addmm(gradient, alpha, alpha.mT, beta=-0.5 * outputs, alpha=0.5, out=gradient)
    return Sensitivity(value, gradient, 0.5 * (quadratic - n * outputs))

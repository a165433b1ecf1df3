"""The log marginal likelihood of a Gaussian process with its exact gradient, by Cholesky."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from bayesgen import solvers
from bayesgen._internal import checks
from bayesgen.covariance.gram import Gram
from bayesgen.evidence import EvidenceParts
from bayesgen.models.gp.problem import GPSetting

# Largest number of points for which a Gram matrix is kept beside the covariance.
_KEPT = 2000


@dataclass(frozen=True)
class NoiseGroup:
    """Outputs and tasks that share a noise variance and therefore a factorisation.

    Attributes:
        noise: noise variance σ², (1,) or (n,).
        tasks: selection of the B tasks.
        outputs: selection of the C outputs.
    """

    noise: Tensor
    tasks: slice
    outputs: slice


def spread(noise: Tensor) -> Tensor:
    """Reshape a noise variance of shape (), (n,), (n, C) or (B, n, C) to three axes.

    The result broadcasts with (B, n, C).
    """
    if noise.ndim == 1:
        return noise[None, :, None]
    return noise.reshape((1,) * (3 - noise.ndim) + noise.shape)


def is_per_point(noise: Tensor) -> bool:
    """Whether a noise variance, in the shape of `spread`, differs between points or outputs."""
    return noise.shape[1:] != (1, 1)


def noise_groups(noise: Tensor) -> list[NoiseGroup]:
    """Group outputs and tasks by noise variance, for a noise in the shape of `spread`."""
    B, _, C = noise.shape
    tasks, outputs = (
        [slice(None)] if size == 1 else [slice(i, i + 1) for i in range(size)] for size in (B, C)
    )
    return [NoiseGroup(noise[b, :, c], tasks[b], outputs[c]) for b in range(B) for c in range(C)]


def covariance(gram: Gram, theta: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
    """The covariance sK(θ) + diag(σ²), a new (n, n) matrix."""
    matrix = gram.matrix(theta).mul_(scale)
    matrix.diagonal().add_(noise)
    return matrix


def evidence_at(gram: Gram, at: GPSetting, y: Tensor) -> tuple[EvidenceParts, Tensor]:
    """Parts of the evidence and the solve, at hyperparameters that all tasks share.

    Args:
        gram: kernel on the inputs.
        at: hyperparameters; the noise variance is broadcastable with (B, n, C).
        y: targets, (B, n, C).

    Returns:
        The parts of the evidence, batch shape (B,), and (sK + diag σ²)⁻¹y, (B, n, C).
    """
    B, n, _ = y.shape
    groups = noise_groups(at.noise)
    if len(groups) == 1:
        build = partial(covariance, gram, at.theta, at.scale, groups[0].noise)
        return solvers.evidence_parts(solvers.cholesky(build), y, groups[0].noise)
    alpha = torch.empty_like(y)
    fit, complexity, dof, error, jitter = y.new_zeros(5, B)
    method = ""
    for group in groups:
        factor = solvers.cholesky(partial(covariance, gram, at.theta, at.scale, group.noise))
        targets = y[group.tasks, :, group.outputs]
        part, weights = solvers.evidence_parts(factor, targets, group.noise)
        alpha[group.tasks, :, group.outputs] = weights
        fit[group.tasks] += part.fit
        complexity[group.tasks] += part.complexity
        dof[group.tasks] += part.effective_dimension
        error[group.tasks] += part.error
        jitter[group.tasks] = torch.maximum(jitter[group.tasks], part.jitter)
        method = part.method
    return EvidenceParts(fit, complexity, dof, error, jitter, n, method), alpha


@dataclass(frozen=True)
class ValueAndGradient:
    """A log marginal likelihood in nats and its derivatives.

    Attributes:
        value: log p(y), ().
        kernel: derivatives in the kernel parameters θ (log ℓ, or gpytorch's raw parameters), (p,).
        log_scale: derivative in log s, ().
        log_noise: derivative in the logarithm of a common factor of all noise variances, ().
    """

    value: Tensor
    kernel: Tensor
    log_scale: Tensor
    log_noise: Tensor


class LogMarginalLikelihood:
    """The log marginal likelihood of one task as a function of (θ, s, σ²), with exact gradient.

        log p(y) = Σ_c log N(y_c; 0, A),  A = sK(θ) + diag(σ²),
        ∂ log p/∂θ = ⟨½ Σ_c α_c α_cᵀ − ½ C A⁻¹, ∂A/∂θ⟩,  α_c = A⁻¹ y_c.

    Each noise variance takes one Cholesky factorisation and one inverse, in one (n, n) array, for
    all its outputs together.

    Args:
        gram: kernel on the inputs, as made by `bayesgen.covariance.gram.gram(kernel, x)`.
        y: targets, (n, C).

    Raises:
        ValueError: y does not have shape (n, C) or is not finite.

    Source: Rasmussen & Williams (2006), eq. 2.30 and 5.9.

    Example:
        >>> import gpytorch
        >>> from bayesgen.covariance.gram import gram
        >>> x = torch.linspace(0, 1, 20, dtype=torch.float64)[:, None]
        >>> objective = LogMarginalLikelihood(
        ...     gram(gpytorch.kernels.RBFKernel().double(), x), torch.sin(3 * x)
        ... )
        >>> at = objective(torch.zeros(1, dtype=torch.float64), 1.0, 0.1)
        >>> round(float(at.value), 3), round(float(at.kernel), 3)
        (-4.965, -7.088)
    """

    def __init__(self, gram: Gram, y: Tensor) -> None:
        self.gram = gram
        self.y = checks.targets("y", y, len(gram.x), like=gram.x)
        if self.y.ndim != 2:
            raise ValueError(f"y must have shape (n, C), got {tuple(self.y.shape)}")

    def __call__(
        self, theta: Tensor, scale: Tensor | float, noise: Tensor | float
    ) -> ValueAndGradient:
        """Value and gradient at kernel parameters θ, outputscale s and noise variance σ².

        Args:
            theta: kernel parameters, (p,).
            scale: outputscale s > 0, ().
            noise: noise variances σ² > 0, (), (n,) or (n, C).

        Raises:
            ValueError: a setting is not positive; the covariance is indefinite.
        """
        scale = checks.positive("scale", scale, like=self.y)
        noise = checks.positive("noise", noise, like=self.y)
        value, log_scale, log_noise = self.y.new_zeros(3)
        weights: Tensor | None = None
        build, pull = self._prepared(theta, scale)
        for group in noise_groups(spread(noise)):
            factor = solvers.cholesky(partial(build, group.noise))
            part = solvers.sensitivity(factor, self.y[:, group.outputs])
            along_noise = (part.gradient.diagonal() * group.noise).sum()
            value = value + part.value
            log_noise = log_noise + along_noise
            log_scale = log_scale + part.data_term - along_noise
            weights = part.gradient if weights is None else weights.add_(part.gradient)
        assert weights is not None
        return ValueAndGradient(value, scale * pull(weights), log_scale, log_noise)

    def _prepared(
        self, theta: Tensor, scale: Tensor
    ) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """Functions noise → A, a new matrix, and weights → ⟨weights, ∂K/∂θ⟩.

        A large Gram matrix is computed again for each noise, so that no second one is kept.
        """
        if len(self.gram.x) > _KEPT:
            build = partial(covariance, self.gram, theta, scale)
            return build, partial(self.gram.pull, theta)
        matrix, pull = self.gram.with_pull(theta)
        return partial(_shifted, matrix, scale), pull

    def value(self, theta: Tensor, scale: Tensor | float, noise: Tensor | float) -> float:
        """The value alone, in nats; see `__call__` for arguments and errors."""
        scale = checks.positive("scale", scale, like=self.y)
        noise = checks.positive("noise", noise, like=self.y)
        build, total = self._prepared(theta, scale)[0], 0.0
        for group in noise_groups(spread(noise)):
            factor = solvers.cholesky(partial(build, group.noise))
            y = self.y[:, group.outputs]
            n, outputs = y.shape
            quadratic = (y * factor.solve(y)).sum()
            rest = outputs * (factor.logdet() + n * math.log(2 * math.pi))
            total += -0.5 * float(quadratic + rest)
        return total

    def fisher(self, theta: Tensor, scale: Tensor | float, noise: Tensor | float) -> Tensor:
        """Fisher information in (θ, log s, log σ²), (p + 2, p + 2), positive semi-definite.

            F_ij = ½ C tr(A⁻¹ ∂ᵢA A⁻¹ ∂ⱼA)

        Noise variances that differ between points share one factor, whose logarithm is the last
        coordinate. Arguments and errors are those of `__call__`.

        Source: Rasmussen & Williams (2006), section 5.4.1; Mardia & Marshall (1984).
        """
        scale = checks.positive("scale", scale, like=self.y)
        noise = checks.positive("noise", noise, like=self.y)
        p = len(theta)
        matrix, tangents = self.gram.matrix(theta), self.gram.tangents(theta[None])[0]
        result = self.y.new_zeros(p + 2, p + 2)
        for group in noise_groups(spread(noise)):
            factor = solvers.cholesky(partial(_shifted, matrix, scale, group.noise))
            inverse = factor.into_inverse()
            each = [*(scale * (inverse @ t) for t in tangents), scale * (inverse @ matrix)]
            each.append(inverse * group.noise)
            rows = torch.stack([m.reshape(-1) for m in each])
            columns = torch.stack([m.mT.reshape(-1) for m in each])
            outputs = self.y[:, group.outputs].shape[1]
            result += 0.5 * outputs * (rows @ columns.mT)
        return 0.5 * (result + result.mT)


def _shifted(matrix: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
    """The covariance sK + diag(σ²) of a Gram matrix K, a new (n, n) matrix."""
    result = matrix * scale
    result.diagonal().add_(noise)
    return result

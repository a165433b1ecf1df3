"""The chain rule of the evidence: learning curves and the evidence after the first m points."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from bayesgen import solvers
from bayesgen._internal import checks
from bayesgen._internal.words import plural
from bayesgen.evidence import Evidence


class JointNormal(NamedTuple):
    """Targets that are jointly normal under the model, y ~ N(0, A).

    Attributes:
        covariance: covariance A including the noise variance, (n, n).
        noise: noise variances σ², (n,).
        y: targets less their mean under the prior, (n, C).
    """

    covariance: Tensor
    noise: Tensor
    y: Tensor


class Exact(Protocol):
    """A posterior whose evidence obeys the chain rule exactly."""

    def gaussians(self, task: int) -> Iterator[JointNormal]:
        """The joint normals of one task's targets, grouped by covariance."""


def learning_curve(posterior: Exact, task: int, orderings: int, seed: int) -> Tensor:
    """The terms log p(yᵢ | y_<i) in nats, (orderings, n); see `ExactPosterior.learning_curve`.

    Each term is −½zᵢ² − log Lᵢᵢ − ½ log 2π, where LLᵀ is the covariance in that ordering and
    z = L⁻¹y.
    """
    total: Tensor | None = None
    for part in posterior.gaussians(task):
        n, C = part.y.shape
        rows = []
        for order in _orderings(n, orderings, seed):
            matrix = part.covariance[order][:, order]
            lower = solvers.cholesky(matrix).lower
            z = torch.linalg.solve_triangular(lower, part.y[order], upper=False)
            constant = C * (lower.diagonal().log() + 0.5 * math.log(2 * math.pi))
            rows.append(-0.5 * z.square().sum(1) - constant)
        total = torch.stack(rows) if total is None else total + torch.stack(rows)
    assert total is not None
    return total


def conditional(
    posterior: Exact, evidence: Evidence, task: int, m: int, orderings: int, seed: int
) -> Evidence:
    """The conditional evidence of one task; see `ExactPosterior.conditional_evidence`.

    Args:
        posterior: the posterior.
        evidence: the Evidence of the task on all data.
        task: number of the task in a batch.
        m: number of points to condition on.
        orderings: number of orderings to average over.
        seed: seed of the random orderings.
    """
    n = evidence.n
    values = learning_curve(posterior, task, orderings, seed)[:, m:].sum(1)
    fits, dofs = torch.zeros_like(values), torch.zeros_like(values)
    for part in posterior.gaussians(task):
        inverse = solvers.cholesky(part.covariance).into_inverse()
        alpha = inverse @ part.y
        share = 1 - part.noise * inverse.diagonal()  # posterior variance over σ²
        C = part.y.shape[1]
        each = -0.5 * (
            C * ((2 * math.pi * part.noise).log() + share) + part.noise * alpha.square().sum(1)
        )
        for i, order in enumerate(_orderings(n, orderings, seed)):
            fits[i] += each[order[m:]].sum()
            dofs[i] += C * share[order[m:]].sum()
    error = values.std() / math.sqrt(orderings) if orderings > 1 else torch.zeros_like(values[0])
    fit = fits.mean()
    text = f"{int(evidence.fingerprint)} {m} {orderings} {seed}"
    mark = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little") + 1
    return Evidence(
        fit,
        # A divergence, which rounding may make slightly negative.
        fit - values.mean(),
        n - m,
        dofs.mean(),
        error=error + evidence.error,
        method=f"{evidence.method}; after {m} points, averaged over "
        f"{plural(orderings, 'ordering')}",
        fingerprint=torch.tensor(mark),
    )


def _orderings(n: int, count: int, seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(checks.seed(seed))
    yield torch.arange(n)
    for _ in range(count - 1):
        yield torch.randperm(n, generator=generator)

"""The exact evidence of tasks at given hyperparameters, by Cholesky of a tiled matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bayesgen import solvers
from bayesgen._internal.progress import Progress
from bayesgen._internal.user_warning import warn
from bayesgen.covariance.gram import KernelGram
from bayesgen.covariance.tiled import TiledGram
from bayesgen.evidence import Evidence

METHOD = "exact, by Cholesky, at hyperparameters found by block Lanczos"


def evidence(
    matrices: KernelGram,
    y: Tensor,
    theta: Tensor,
    scale: Tensor,
    noise: Tensor,
    keep: Callable[[str, Callable[[], Any]], Any],
    progress: Progress | None,
) -> tuple[Evidence, Tensor] | None:
    """The exact evidence and the solve at the hyperparameters of each task.

    Each covariance is computed in tiles, without a matrix of distances, and factorised in place.
    Tasks with the same hyperparameters share a factorisation.

    Args:
        matrices: kernel on the inputs.
        y: targets, (B, n, C).
        theta: kernel parameters of each task, (B, p).
        scale: outputscale of each task, (B,).
        noise: noise variance of each task, (B,).
        keep: called as keep(name, make); returns the result of make(), from this run or from an
            earlier run that was interrupted.
        progress: called as progress(done, expected, what).

    Returns:
        The Evidence, batch shape (B,), and (sK + σ²I)⁻¹y, (B, n, C), in y's dtype; or None, with a
        warning, where the factorisation runs out of memory.
    """
    settings = torch.cat([theta, scale[:, None], noise[:, None]], 1).to(y)
    distinct, which = torch.unique(settings, dim=0, return_inverse=True)
    B, n, _ = y.shape
    values, alpha = y.new_zeros(5, B), torch.empty_like(y)
    for k, setting in enumerate(distinct):
        of = (which == k).nonzero()[:, 0]
        *_, s, variance = setting

        def covariance(setting: Tensor = setting) -> Tensor:
            matrix = TiledGram(matrices, setting[:-2]).matrix
            assert matrix is not None
            matrix.mul_(setting[-2]).diagonal().add_(setting[-1])
            return matrix

        def make(of: Tensor = of, variance: Tensor = variance) -> tuple[Tensor, Tensor]:
            e, weights = solvers.evidence(solvers.cholesky(covariance), y[of], variance)
            jitter = e.jitter.expand(len(of))
            parts = (e.fit, e.complexity, e.effective_dimension.expand(len(of)), e.error, jitter)
            return torch.stack(parts), weights

        try:
            values[:, of], alpha[of] = keep(f"exact {k}", make)
        except (MemoryError, RuntimeError) as err:
            if not solvers.out_of_memory(err):
                raise
            warn(
                f"an exact Cholesky factorisation of order {n:,} ran out of memory "
                f"({str(err).splitlines()[0][:120]}): the evidence is that of block Lanczos"
            )
            return None
        if progress is not None:
            progress(k + 1, len(distinct), f"exact evidence at s = {s:.3g}, σ² = {variance:.3g}")
    fit, complexity, dof, error, jitter = values
    return (
        Evidence(fit, complexity, n, dof, error=error, method=METHOD, jitter=jitter),
        alpha,
    )

"""The ways in which a Gaussian process is fitted to one set of inputs."""

from __future__ import annotations

from functools import partial

import gpytorch
import torch
from torch import Tensor

from bayesgen import kernels
from bayesgen._internal import checks
from bayesgen._internal.progress import Progress
from bayesgen.covariance.gram import KernelGram, LengthscaleGram
from bayesgen.evidence import Evidence, combine
from bayesgen.models.gp import gradient_search, krylov, lengthscale_search
from bayesgen.models.gp.gradient_search import Free
from bayesgen.models.gp.objective import evidence_at
from bayesgen.models.gp.posterior import GPPosterior, MeanFunction
from bayesgen.spectrum.spectrum import Spectrum


class GPFit:
    """One fit: data and kernel in their inner form, and the ways to solve it.

    Args:
        gram: kernel on the inputs.
        y: targets less the prior mean, (B, n, C).
        scale: s as given, ().
        noise: σ² as given, broadcastable with (B, n, C).
        mean: prior mean.
        shape: of the targets as they came.
    """

    def __init__(
        self,
        gram: KernelGram,
        y: Tensor,
        scale: Tensor,
        noise: Tensor,
        mean: MeanFunction,
        shape: torch.Size,
    ) -> None:
        self.gram, self.y, self.scale, self.noise = gram, y, scale, noise
        self.mean, self.shape = mean, shape

    def fixed(self) -> GPPosterior:
        """Everything as given: one Cholesky factorisation."""
        theta, B = self.gram.start(), len(self.y)
        evidence, alpha = evidence_at(self.gram, theta, self.scale, self.noise, self.y)
        noise = self.noise
        return self._posterior(
            theta.expand(B, -1),
            self.scale.expand(B),
            noise.expand(B, 1, 1) if noise.numel() == 1 else noise,
            alpha,
            evidence,
        )

    def at_scale(self, free: Free, search: krylov.Search) -> GPPosterior:
        """By block Lanczos; see `large`."""
        noise = self.noise.reshape(()).expand(len(self.y))
        best = krylov.fit(self.gram, self.y, free, self.scale.expand(len(self.y)), noise, search)
        return self._posterior(
            best.theta,
            best.scale.to(self.y),
            best.noise[:, None, None].to(self.y),
            best.alpha,
            best.evidence,
            at_bound=best.at_bound,
            spectra=best.spectra,
            dense=False,
        )

    def by_spectrum(self, free: Free) -> GPPosterior:
        """Scale and noise from one dense spectrum."""
        theta = self.gram.start()
        spectrum = Spectrum.dense(self.gram.matrix(theta), self.y)
        top = spectrum.maximise(
            scale=None if free.scale else self.scale,
            noise=None if free.noise else self.noise.reshape(()),
        )
        alpha = spectrum.solve(top.scale, top.noise)
        return self._posterior(
            theta.expand(len(self.y), -1),
            top.scale,
            top.noise[:, None, None],
            alpha,
            top.evidence,
            at_bound=top.at_bound,
            spectra=1,
            spectrum=spectrum,
        )

    def by_lengthscale(
        self, free: Free, tolerance: float, most: int, progress: Progress | None
    ) -> GPPosterior:
        """From a few dense spectra along the length-scale."""
        assert isinstance(self.gram, LengthscaleGram)
        best = lengthscale_search.search_lengthscale(
            self.gram,
            self.y,
            scale=None if free.scale else self.scale,
            noise=None if free.noise else self.noise.reshape(()),
            tolerance=tolerance,
            most=most,
            progress=progress,
        )
        return self._posterior(
            best.parameter[:, None],
            best.scale,
            best.noise[:, None, None],
            best.alpha,
            best.evidence,
            at_bound=best.at_bound,
            spectra=best.spectra,
        )

    def by_gradient(self, free: Free, progress: Progress | None) -> GPPosterior:
        """L-BFGS on the exact gradient, task by task."""
        starts = gradient_search.starts(self.gram, self.y, self.scale, self.noise, free)
        B = len(starts)
        found = []
        for b, (y, start) in enumerate(zip(self.y, starts, strict=True)):
            report = progress and partial(_within, progress, b, B)
            found.append(
                gradient_search.search_gradient(self.gram, y, start, free, progress=report)
            )
        for setting in found:
            check_kernel(self.gram, setting.theta)
        parts = [
            evidence_at(self.gram, s.theta, s.scale, s.noise[None], self.y[b : b + 1])
            for b, s in enumerate(found)
        ]
        evidence = combine(lambda *part: torch.cat(part), *(evidence for evidence, _ in parts))
        return self._posterior(
            torch.stack([s.theta for s in found]),
            torch.stack([s.scale for s in found]),
            torch.stack([s.noise for s in found]),
            torch.cat([alpha for _, alpha in parts]),
            evidence,
        )

    def _posterior(
        self,
        theta: Tensor,
        scale: Tensor,
        noise: Tensor,
        alpha: Tensor,
        evidence: Evidence,
        *,
        at_bound: Tensor | None = None,
        spectra: int = 0,
        spectrum: Spectrum | None = None,
        dense: bool = True,
    ) -> GPPosterior:
        if at_bound is None:
            at_bound = torch.zeros_like(scale, dtype=torch.bool)
        return GPPosterior(
            self.gram,
            self.y,
            theta=theta,
            scale=scale,
            noise=noise,
            alpha=alpha,
            evidence=evidence,
            at_bound=at_bound,
            spectra=spectra,
            mean=self.mean,
            target_shape=self.shape,
            spectrum=spectrum,
            dense=dense,
        )


def _within(progress: Progress, b: int, B: int, done: int, expected: int, what: str) -> None:
    """The progress of one task as a part of the progress of all."""
    progress(b * expected + done, B * expected, f"task {b + 1} of {B}: {what}")


def check_kernel(matrices: KernelGram, theta: Tensor) -> None:
    """Symmetry, finiteness and PSD on all inputs of a kernel the package does not know.

    One Cholesky factorisation where all is well; eigenvalues only to say what is wrong.
    """
    if _is_known(matrices):
        return
    base, matrix = matrices.base, matrices.matrix(theta)
    name = base.name() if isinstance(base, kernels.FunctionKernel) else type(base).__name__
    n, who, eps = len(matrix), f"kernel {name}", torch.finfo(matrix.dtype).eps
    checks.gram(matrix, n, who)
    size = float(matrix.abs().sum(1).max())  # at least the largest eigenvalue
    shifted = matrix.clone()
    shifted.diagonal().add_(10 * n * eps * size)
    if int(torch.linalg.cholesky_ex(shifted)[1]):
        values = torch.linalg.eigvalsh(matrix)
        checks.psd(float(values[0]), float(values[-1]), n, matrix.dtype, who)


def _is_known(matrices: KernelGram) -> bool:
    """Whether every part of the kernel is gpytorch's own."""
    parts = (p for p in matrices.base.modules() if isinstance(p, gpytorch.kernels.Kernel))
    return all(type(p).__module__.startswith("gpytorch.") for p in parts)

"""Solves with a spectrum's eigenvectors, and posterior marginals at the points."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from bayesgen._internal import checks, deprecation
from bayesgen.solvers.quadrature import Measure, SquaredProduct
from bayesgen.spectrum.measures import SpectralMeasures


@dataclass(frozen=True)
class Solves(SpectralMeasures):
    """Spectral measures with eigenvectors, which give solves and marginals.

    Attributes:
        vectors: eigenvectors, (n, m), or None where they are not kept.
        projections: Uᵀy, (B, m, C), or None without eigenvectors or targets.
        spanned: whether `vectors` are Ritz vectors. Their span contains the targets but is not
            invariant under K, so they give solves but no variances.
    """

    vectors: Tensor | None = None
    projections: Tensor | None = None
    spanned: bool = False

    def solve(self, scale: Any, noise: Any) -> Tensor:
        """Solution (sK + σ²I)⁻¹y, (B, n, C): the weights of each task's posterior mean.

        Args:
            scale: outputscale s, () or (B,).
            noise: noise variance σ², () or (B,).
        """
        return self.unchecked_solve(*(v[..., 0] for v in self.settings(scale, noise)))

    def unchecked_solve(self, scale: Tensor, noise: Tensor) -> Tensor:
        """The same as `solve`, without checks, for tensors () or (B,)."""
        vectors, projections, y = self._basis()
        B = len(y)
        scale, noise = scale.expand(B)[:, None, None], noise.expand(B)[:, None, None]
        nodes = self.density.nodes[: vectors.shape[1], None]
        inside = 1 / (scale * nodes + noise)
        if vectors.shape[1] < self.n and not self.spanned:
            outside, inside = 1 / noise, inside - 1 / noise
        else:
            outside = torch.zeros_like(noise)
        coefficients = (projections * inside).movedim(0, 1).to(y)
        back = vectors @ coefficients.reshape(vectors.shape[1], -1)
        return back.reshape(self.n, B, self.outputs).movedim(0, 1) + outside.to(y) * y

    def marginals(self, scale: Any, noise: Any) -> tuple[Tensor, Tensor]:
        """Posterior mean (B, n, C) and variance (B, n, 1) of f at the points. Differentiable.

            m = U diag(sλ/(sλ + σ²)) Uᵀy,   v = diag(U diag(sλσ²/(sλ + σ²)) Uᵀ)

        Args:
            scale: outputscale s, () or (B,).
            noise: noise variance σ², () or (B,).

        Raises:
            ValueError: the spectrum was built without targets, or by block Lanczos.

        Source: Rasmussen & Williams (2006), eq. 2.25–2.26, in the eigenbasis of K.

        Example:
            >>> import torch
            >>> from bayesgen.spectrum import Spectrum
            >>> y = torch.tensor([1.0, 0.0], dtype=torch.float64)
            >>> mean, variance = Spectrum.dense(torch.eye(2).double(), y).marginals(1.0, 1.0)
            >>> mean[0, :, 0], variance[0, :, 0]
            (tensor([0.5000, 0.0000], dtype=...), tensor([0.5000, 0.5000], dtype=...))
        """
        vectors, projections, y = self._basis()
        self._whole("variances")
        B = len(y)
        scale, noise = (v.expand(B, 1) for v in self.settings(scale, noise))
        signal = scale * self.density.nodes[: vectors.shape[1]]
        shrunk = signal / (signal + noise)
        coefficients = (shrunk[..., None] * projections).movedim(0, 1)
        mean = vectors @ coefficients.reshape(vectors.shape[1], -1)
        variance = SquaredProduct.apply(vectors, (shrunk * noise).mT)
        return mean.reshape(self.n, B, self.outputs).movedim(0, 1), variance.mT[..., None]

    def _whole(self, what: str) -> None:
        if self.spanned:
            raise ValueError(
                f"a spectrum by block Lanczos cannot give {what}: its vectors span only the "
                "targets that it was built with; use Spectrum.dense or Spectrum.features"
            )

    def _basis(self) -> tuple[Tensor, Tensor, Tensor]:
        """Eigenvectors, projections and targets; a ValueError where there are none."""
        self.target_measure()
        if self.vectors is None or self.projections is None or self.y is None:
            raise ValueError(
                "this spectrum has no eigenvectors, which solves and marginals need: use "
                "Spectrum.dense or Spectrum.features"
            )
        return self.vectors, self.projections, self.y

    def labelling(self, b: int) -> Self:
        """Former name of `task`; deprecated."""
        deprecation.warn_renamed("spectrum.labelling(b)", "spectrum.task(b)")
        return self.task(b)

    def task(self, b: int) -> Self:
        """The same spectrum with the targets of task b alone."""
        _, projections, y = self._basis()
        b = checks.index("b", b, len(y))
        weights = self.target_measure().weights.reshape(len(y), -1)[b]
        targets = Measure(self.target_measure().nodes, weights)
        return replace(self, targets=targets, projections=projections[b : b + 1], y=y[b : b + 1])

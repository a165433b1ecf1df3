"""The spectral measures of a covariance matrix as plain data, with bounds of their errors."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from bayesgen._internal import checks, deprecation
from bayesgen.solvers.quadrature import Measure
from bayesgen.spectrum.decomposition import Rounding
from bayesgen.spectrum.quadrature_bracket import Bracket
from bayesgen.verify import Check


@dataclass(frozen=True)
class SpectralMeasures:
    """The density of a PSD operator K on n points and its target-weighted measure.

    A Gaussian likelihood depends on K through these two measures alone. The evidence, its
    derivatives and its maximum over (s, σ²) are functions of this class; `Spectrum` adds
    eigenvectors.

    Attributes:
        density: eigenvalues of K with weight one each (zero eigenvalues may share a node).
        n: order of the operator.
        targets: the same nodes weighted by Σ_c (uᵢᵀy_c)², shape (..., m); None without targets.
        outputs: C, the number of outputs of each task.
        method: description of how it was computed.
        y: the targets, (B, n, C), where eigenvectors are kept.
        rounding: size of the rounding error of K.
        probes: the density estimated from each random probe, nodes and weights (q, m); None where
            the density is exact. `density` is their mean.
        upper: the target-weighted measure by Gauss–Radau quadrature, where `targets` is the mean of
            it and of Gauss quadrature; the two bracket the quadratic form.
        radau: the density by Gauss–Radau quadrature; an end of the bracket of the log-determinant
            for the probes that were drawn.
        targets_bracket, density_bracket: the ends of the two brackets after each of the last two
            blocks.
        doubt: effect on the sums of `density` of rounding in the moments that it was calibrated on,
            one row for each moment.
        checks: comparisons with a direct computation that were made.
    """

    density: Measure
    n: int
    targets: Measure | None
    outputs: int
    method: str
    y: Tensor | None = None
    rounding: Rounding = field(default_factory=Rounding)
    probes: Measure | None = None
    upper: Measure | None = None
    radau: Measure | None = None
    targets_bracket: Bracket | None = None
    density_bracket: Bracket | None = None
    doubt: Measure | None = None
    checks: tuple[Check, ...] = ()

    @property
    def largest(self) -> Tensor:
        """The largest eigenvalue of K."""
        return self.density.nodes.max()

    def target_measure(self) -> Measure:
        """The target-weighted measure of the spectrum.

        Raises:
            ValueError: the spectrum was built without targets.
        """
        if self.targets is None:
            raise ValueError("this spectrum was built without targets: pass y to its constructor")
        return self.targets

    def loaded(self) -> Measure:
        """Former name of `target_measure`; deprecated."""
        deprecation.warn_renamed("spectrum.loaded()", "spectrum.target_measure()")
        return self.target_measure()

    def settings(self, scale: object, noise: object) -> tuple[Tensor, Tensor]:
        """Outputscale and noise, checked to be positive, with one trailing axis for the nodes."""
        like = self.density.nodes
        scale_, noise_ = (
            checks.positive(name, value, like=like)[..., None]
            for name, value in (("scale", scale), ("noise", noise))
        )
        return scale_, noise_

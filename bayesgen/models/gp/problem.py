"""Values that describe one fit of a Gaussian process: the problem and its solution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from bayesgen.covariance.gram import KernelGram
from bayesgen.evidence import EvidenceParts
from bayesgen.models.hyperparameters import Free
from bayesgen.models.search.landscape import Landscape
from bayesgen.posterior.posterior import Observed
from bayesgen.spectrum.spectrum import Spectrum
from bayesgen.verify import Check

# A prior mean: inputs (m, d) → (m, 1) or (m, C).
MeanFunction = Callable[[Tensor], Tensor]


def zero_mean(x: Tensor) -> Tensor:
    """The prior mean function that is zero, (m, 1)."""
    return x.new_zeros(len(x), 1)


@dataclass(frozen=True)
class GPSetting:
    """Hyperparameters of a Gaussian process.

    Attributes:
        theta: kernel parameters θ, (p,).
        scale: outputscale s, ().
        noise: noise variance σ², broadcastable with the targets.
    """

    theta: Tensor
    scale: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Problem:
    """The data and the model of one fit, with the hyperparameters as the user gave them.

    Attributes:
        gram: kernel on the inputs.
        observed: targets as the user gave them.
        y: targets less the prior mean, (B, n, C).
        mean: prior mean function; see `bayesgen.models.gp.mean`.
        given: hyperparameters to keep or to start from; the noise variance is broadcastable with
            (B, n, C).
        free: which hyperparameters are learnt.
    """

    gram: KernelGram
    observed: Observed
    y: Tensor
    mean: MeanFunction
    given: GPSetting
    free: Free

    @property
    def kept_scale(self) -> Tensor | None:
        """The outputscale to keep, (), or None where it is learnt."""
        return None if self.free.scale else self.given.scale

    @property
    def kept_noise(self) -> Tensor | None:
        """The noise variance to keep, (), or None where it is learnt."""
        return None if self.free.noise else self.given.noise.reshape(())


@dataclass(frozen=True)
class Found:
    """Hyperparameters of each task, with the evidence and the solve at them.

    Attributes:
        theta: kernel parameters, (B, p).
        scale: outputscales, (B,).
        noise: noise variances, broadcastable with (B, n, C).
        alpha: (sK + σ²I)⁻¹y, (B, n, C).
        parts: the `EvidenceParts`, batch shape (B,).
        at_bound: whether the optimum lies on the edge of the searched range, (B,).
        spectra: number of spectra that were computed.
        spectrum: spectrum of the first task's kernel with the targets of all tasks, or None where
            it was not computed.
        dense: whether dense matrices were factorised.
        landscapes: the local maxima that the search found for each task, or None where it did not
            search.
        checks: comparisons of fast paths with direct ones, apart from those of the Gram matrix.
    """

    theta: Tensor
    scale: Tensor
    noise: Tensor
    alpha: Tensor
    parts: EvidenceParts
    at_bound: Tensor
    spectra: int = 0
    spectrum: Spectrum | None = None
    dense: bool = True
    landscapes: list[Landscape] | None = None
    checks: tuple[Check, ...] = ()

"""One fit of a Gaussian process as data: what is given, what is learnt, what was found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from bayesgen.covariance.gram import KernelGram
from bayesgen.evidence import EvidenceParts
from bayesgen.models.hyperparameters import Free
from bayesgen.posterior.posterior import Observed
from bayesgen.spectrum.spectrum import Spectrum

# A prior mean: inputs (m, d) → (m, 1) or (m, C).
MeanFunction = Callable[[Tensor], Tensor]


def zero_mean(x: Tensor) -> Tensor:
    """A prior mean of zero, (m, 1)."""
    return x.new_zeros(len(x), 1)


@dataclass(frozen=True)
class GPSetting:
    """Kernel parameters θ (p,), outputscale s () and noise σ², (1, 1), (n, 1) or (n, C)."""

    theta: Tensor
    scale: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Problem:
    """The data and the model of one fit, with the hyperparameters as the user gave them.

    Attributes:
        gram: the kernel on the inputs.
        observed: the targets as the user gave them.
        y: the targets less the prior mean, (B, n, C).
        mean: the prior mean.
        given: the kernel's parameters, outputscale and noise to keep or to start from; the noise
            is broadcastable with (B, n, C).
        free: which of them are learnt.
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
    """Hyperparameters of each task, and what was computed there.

    Attributes:
        theta: the kernel's parameters, (B, p).
        scale: outputscales, (B,).
        noise: noise variances, broadcastable with (B, n, C).
        alpha: (sK + σ²I)⁻¹y, (B, n, C).
        parts: of the evidence, batch shape (B,).
        at_bound: whether the optimum lies on the edge of what was searched, (B,).
        spectra: the number of spectra that were computed.
        spectrum: that of the first task's kernel with the targets of all tasks, where it is known.
        dense: whether matrices were factorised.
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

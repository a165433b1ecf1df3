"""Hyperparameters of one task under Laplace's approximation, and the modes of a fit."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bayesgen.covariance.gram import Gram
from bayesgen.models.latent import Mode
from bayesgen.models.search.landscape import Landscape


@dataclass(frozen=True)
class LatentSetting:
    """Hyperparameters of one task.

    Attributes:
        gram: prior covariance of unit outputscale.
        theta: parameters of the prior covariance, (p,).
        scale: outputscale s, ().
        log_noise: log σ², (), or None for a likelihood without noise variance.
    """

    gram: Gram
    theta: Tensor
    scale: Tensor
    log_noise: Tensor | None


@dataclass(frozen=True)
class LatentFit:
    """The setting of largest Laplace evidence of one task.

    Attributes:
        setting: the hyperparameters.
        modes: the modes of the latent functions, one for each independent problem.
        different: number of different modes that a problem was seen to have at this setting.
        landscape: the local maxima of the evidence, or None where nothing was searched.
    """

    setting: LatentSetting
    modes: list[Mode]
    different: int
    landscape: Landscape | None

    @property
    def log_evidence(self) -> float:
        """Laplace's log marginal likelihood in nats."""
        return sum(float(m.evidence.log_marginal_likelihood) for m in self.modes)

"""What the posteriors of all models share: the data they saw, their Evidence, draws to export."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from bayesgen._internal import checks, deprecation
from bayesgen.covariance.gram import Gram
from bayesgen.evidence import Evidence, combine
from bayesgen.posterior import conditional
from bayesgen.spectrum.spectrum import Spectrum

# New points a pass: bounds the cross-covariances.
CHUNK = 2000


@dataclass(frozen=True)
class Observed:
    """The targets of a fit, as the model was given them.

    Attributes:
        y: in the likelihood's inner form, (B, n, C).
        shape: what the user passed, (n,), (n, C), (B, n) or (B, n, C).
        batched: whether its first axis is the batch of tasks.
        kind: "real" for a density, or the likelihood's name: the same numbers read as counts or as
            labels are other data.
    """

    y: Tensor
    shape: torch.Size
    batched: bool
    kind: str = "real"
    likelihood: Any = None

    def __getitem__(self, task: int) -> Observed:
        """The data of one task."""
        y = self.y[task][None]
        return replace(self, y=y, shape=self.shape[1:], batched=False)

    @property
    def n(self) -> int:
        """Number of observations."""
        return self.y.shape[1]

    def fingerprint(self) -> Tensor:
        """A hash of each task, (B,), int64, never 0."""
        return torch.tensor([self._hash(y) for y in self.y], dtype=torch.int64)

    def _hash(self, y: Tensor) -> int:
        digest = hashlib.sha256(f"{self.kind} {tuple(y.shape)}".encode())
        digest.update(y.detach().double().cpu().contiguous().numpy().tobytes())
        return int.from_bytes(digest.digest()[:7], "little") + 1


class Posterior(ABC):
    """A model after it has seen data.

    Attributes:
        evidence: the `Evidence`, batch shape () or (B,).
        observed: the data.
        learnt: names of the hyperparameters that were learnt on them.
        data_dependent: what else the prior took from the data, in words; "" for nothing.
    """

    evidence: Evidence
    observed: Observed
    learnt: frozenset[str] = frozenset()
    data_dependent: str = ""

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        deprecation.old_task_argument(cls)

    @property
    def looked(self) -> str:
        """The old name of `data_dependent`."""
        deprecation.warn_renamed("posterior.looked", "posterior.data_dependent")
        return self.data_dependent

    def _observe(self, observed: Observed, evidence: Evidence) -> None:
        self.observed = observed
        evidence = replace(evidence, fingerprint=observed.fingerprint())
        evidence = evidence if observed.batched else evidence[0]
        self.evidence = replace(evidence, _observed=observed)

    def learning_curve(self, *, orderings: int = 1, task: int = 0, seed: int = 0) -> Tensor:
        """log p(yᵢ | y_<i) in nats, (orderings, n): what each point adds, given those before it.

        Every row sums to the log marginal likelihood. The first ordering is that of the data.

        Args:
            orderings: how many, at least 1.
            task: which one, of a batch.
            seed: of the random orderings.

        Raises:
            TypeError: a posterior whose evidence is not exact.

        Source: Lotfi et al. (2022), eq. 3; Dawid (1984).
        """
        raise TypeError("a learning curve wants an exact posterior, with Gaussian noise")

    def _plain(self, values: Tensor) -> Tensor:
        """(B, m, C) in the layout of the targets: without the axes they did not have."""
        outputs_kept = len(self.observed.shape) - self.observed.batched == 2
        values = values if outputs_kept else values[..., 0]
        return values if self.observed.batched else values[0]

    def _each(self, values: Tensor) -> Tensor:
        """(B, ...) as the batch shape."""
        return values if self.observed.batched else values[0]

    @abstractmethod
    def predict(self, x_new: Any, *, latent: bool = False) -> Distribution:
        """Predictive distribution of each new observation on its own."""

    @abstractmethod
    def latent_samples(self, count: int, *, task: int = 0, seed: int = 0) -> Tensor:
        """Draws of the latent functions at the training inputs, (count, n, C)."""

    @abstractmethod
    def observe(self, f: Tensor, *, task: int = 0) -> Distribution:
        """The distribution of the training targets given latent values f, (..., n, C)."""

    def log_likelihood(self, f: Tensor, *, task: int = 0) -> Tensor:
        """log p(yᵢ | fᵢ) of each row, (..., n), for f of shape (..., n, C)."""
        values = self.observe(f, task=task).log_prob(self.observed.y[task])
        return values.sum(-1)

    @abstractmethod
    def marginals(self, task: int = 0) -> tuple[Tensor, Tensor]:
        """Mean (n, C) and variances, (n, 1), (n, C) or (n, C, C), of f at the training inputs."""

    def parameters(self, count: int, *, task: int = 0, seed: int = 0) -> dict[str, Tensor]:
        """Named posterior draws for `to_arviz`, each (count, ...)."""
        return {"f": self.latent_samples(count, task=task, seed=seed)}


class ExactPosterior(Posterior):
    """A posterior with Gaussian noise, whose evidence obeys the chain rule exactly."""

    _gram: Gram
    # The posterior of one task at other hyperparameters; each model has names of its own.
    at: Callable[..., ExactPosterior]

    def _observe(self, observed: Observed, evidence: Evidence) -> None:
        super()._observe(observed, evidence)

        def after(m: int, orderings: int, seed: int) -> Evidence:
            whole = self.evidence if observed.batched else self.evidence[None]
            each = [
                conditional.conditional(self, whole[b], b, m, orderings, seed)
                for b in range(len(observed.y))
            ]
            return combine(lambda *parts: self._each(torch.stack(parts)), *each)

        self.evidence = replace(self.evidence, _conditional=after)

    def learning_curve(self, *, orderings: int = 1, task: int = 0, seed: int = 0) -> Tensor:
        """See `Posterior.learning_curve`."""
        return conditional.learning_curve(self, task, orderings, seed)

    @abstractmethod
    def marginals(self, task: int = 0) -> tuple[Tensor, Tensor]:
        """See `Posterior.marginals`."""

    @abstractmethod
    def fitted(self) -> Tensor:
        """Posterior mean at the training inputs, of the targets' shape."""

    @abstractmethod
    def spectrum(self, task: int = 0) -> Spectrum:
        """Spectrum of K at unit outputscale, with one task's targets less the prior mean.

        Raises:
            ValueError: the noise differs between points: then no spectrum serves.
        """

    @abstractmethod
    def prior_mean(self) -> Tensor:
        """The prior's mean at the training inputs, (n, C)."""

    def _moved(self, other: ExactPosterior, **given: Any) -> Any:
        """Another posterior of the same data; what was given to it was not learnt."""
        other.learnt = self.learnt - {name for name, value in given.items() if value is not None}
        return other

    @abstractmethod
    def covariance(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Posterior covariance of f(x1) and f(x2), of one task and any output, (m1, m2)."""

    def prior_at(self, x_new: Tensor, weights: Tensor) -> Tensor:
        """The function k(·, X)α at new points, (m, C); k of unit outputscale, of one task.

        Args:
            x_new: (m, d).
            weights: α, (n, C).
        """
        x_new = checks.real("x_new", checks.inputs("x_new", x_new), like=self._gram.x)
        gram, theta = self._prior()
        blocks = x_new.split(CHUNK)
        return torch.cat([gram.cross(rows)(theta) @ weights for rows in blocks])

    @abstractmethod
    def _prior(self) -> tuple[Gram, Tensor]:
        """The first task's prior covariance, and its parameters."""

    @abstractmethod
    def mean(self, x_new: Any) -> Tensor:
        """Posterior mean at new points, of the targets' layout."""

    @abstractmethod
    def as_prior(self, x_new: Tensor, y_new: Tensor) -> tuple[Spectrum, Tensor]:
        """What this posterior, of one task, is as a prior for data still to come.

        Args:
            x_new: (m, d).
            y_new: (m, C).

        Returns:
            The spectrum of the covariance of f(x_new), the outputscale in it, with the targets
            less the mean; and that mean, (m, C).
        """

    @abstractmethod
    def gaussians(self, task: int) -> Iterator[conditional.JointNormal]:
        """The centred targets of one task with their covariance, grouped by noise."""

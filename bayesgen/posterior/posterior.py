"""What the posteriors of all models share: the data they were fitted to, and one interface.

`Posterior` is all that exports, comparisons and risks need; `ExactPosterior` adds what only a
posterior under Gaussian noise has, whose evidence obeys the chain rule exactly.
"""

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
from bayesgen.evidence import Evidence, EvidenceParts, combine
from bayesgen.likelihoods.likelihood import Likelihood
from bayesgen.likelihoods.separable import Gaussian
from bayesgen.posterior import conditional
from bayesgen.spectrum.spectrum import Spectrum

# New points in one pass, which bounds the memory of a cross-covariance.
CHUNK = 2000
# How real targets are read; the value of its noise plays no part.
_GAUSSIAN = Gaussian()


@dataclass(frozen=True)
class Observed:
    """The targets of a fit, as the user gave them.

    Attributes:
        y: in the likelihood's inner form, (B, n, C).
        shape: of what the user passed, (n,), (n, C), (B, n) or (B, n, C).
        batched: whether its first axis is the batch of tasks.
        likelihood: how the numbers are read: as reals, counts or labels.
    """

    y: Tensor
    shape: torch.Size
    batched: bool
    likelihood: Likelihood = _GAUSSIAN

    @classmethod
    def real(cls, y: Tensor) -> Observed:
        """Real targets (n,), (n, C) or (B, n, C) under Gaussian noise."""
        n, C = (len(y), 1) if y.ndim == 1 else y.shape[-2:]
        return cls(y.reshape(-1, n, C), y.shape, y.ndim == 3)

    def __getitem__(self, task: int) -> Observed:
        """The data of one task, as if it alone had been fitted."""
        if not self.batched:
            return self
        return replace(self, y=self.y[task][None], shape=self.shape[1:], batched=False)

    @property
    def n(self) -> int:
        """The number of observations of each task."""
        return self.y.shape[1]

    def fingerprint(self) -> Tensor:
        """A hash of each task's targets and of how they are read, (B,), int64, never 0."""
        return torch.tensor([self._hash(y) for y in self.y], dtype=torch.int64)

    def _hash(self, y: Tensor) -> int:
        digest = hashlib.sha256(f"{self.likelihood.kind} {tuple(y.shape)}".encode())
        digest.update(y.detach().double().cpu().contiguous().numpy().tobytes())
        return int.from_bytes(digest.digest()[:7], "little") + 1


class Posterior(ABC):
    """A model after it has seen data.

    Attributes:
        evidence: the `Evidence`, batch shape () or (B,).
        observed: the data.
        learnt: names of the hyperparameters that were learnt from the data.
        data_dependent: what else of the prior was taken from the data, in words; "" for nothing.
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

    def _observe(self, observed: Observed, found: Evidence | EvidenceParts) -> None:
        """Keep the data, and the evidence of batch shape (B,) with the data's fingerprint."""
        self.observed = observed
        mark = observed.fingerprint()
        if isinstance(found, EvidenceParts):
            if not observed.batched:
                found, mark = found.task(0), mark[0]
            self.evidence = found.evidence(mark)
        else:
            marked = replace(found, fingerprint=mark)
            self.evidence = marked if observed.batched else marked[0]

    def _plain(self, values: Tensor) -> Tensor:
        """(B, m, C) in the layout of the targets, without the axes that they did not have."""
        outputs_kept = len(self.observed.shape) - self.observed.batched == 2
        values = values if outputs_kept else values[..., 0]
        return values if self.observed.batched else values[0]

    def _each(self, values: Tensor) -> Tensor:
        """(B, ...) in the batch shape of the targets."""
        return values if self.observed.batched else values[0]

    def _index(self, task: int) -> int:
        """The number of a task, checked."""
        count = len(self.observed.y)
        if isinstance(task, bool) or not isinstance(task, int) or not 0 <= task < count:
            raise ValueError(f"task must be an integer in 0..{count - 1}, got {task!r}")
        return task

    @abstractmethod
    def task(self, task: int) -> Posterior:
        """The posterior of one task of a batch, as if that task alone had been fitted.

        Args:
            task: its number, 0 … B − 1.

        Raises:
            ValueError: there is no such task.
        """

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
        """log p(yᵢ | fᵢ) of each row in nats, (..., n), for f of shape (..., n, C)."""
        values = self.observe(f, task=task).log_prob(self.observed.y[task])
        return values.sum(-1)

    @abstractmethod
    def marginals(self, task: int = 0) -> tuple[Tensor, Tensor]:
        """Mean (n, C) and variances, (n, 1), (n, C) or (n, C, C), of f at the training inputs."""

    def parameters(self, count: int, *, task: int = 0, seed: int = 0) -> dict[str, Tensor]:
        """Named posterior draws for `to_arviz`, each (count, ...)."""
        return {"f": self.latent_samples(count, task=task, seed=seed)}


class ExactPosterior(Posterior):
    """A posterior under Gaussian noise, whose evidence obeys the chain rule exactly."""

    _gram: Gram
    # The posterior of one task at other hyperparameters; each model has names of its own.
    at: Callable[..., ExactPosterior]

    @abstractmethod
    def task(self, task: int) -> ExactPosterior:
        """See `Posterior.task`."""

    def learning_curve(self, *, orderings: int = 1, task: int = 0, seed: int = 0) -> Tensor:
        """log p(yᵢ | y_<i) in nats, (orderings, n): what each point adds to those before it.

        Every row sums to the log marginal likelihood. The first ordering is that of the data.

        Args:
            orderings: the number of orderings, at least 1.
            task: its number in a batch.
            seed: of the random orderings.

        Raises:
            ValueError: there is no such task, or orderings is not a positive integer.

        Source: Lotfi et al. (2022), eq. 3; Dawid (1984).

        Example:
            >>> import bayesgen as bg
            >>> x = torch.linspace(-1, 1, 30, dtype=torch.float64)
            >>> posterior = bg.Polynomial(3).fit(x, torch.sin(3 * x))
            >>> total = posterior.learning_curve()[0].sum()
            >>> bool((total - posterior.evidence.log_marginal_likelihood).abs() < 1e-6)
            True
        """
        orderings = checks.whole("orderings", orderings)
        return conditional.learning_curve(self, self._index(task), orderings, seed)

    def conditional_evidence(self, m: int, *, orderings: int = 20, seed: int = 0) -> Evidence:
        """The evidence of the data after the first m points: log p(D_{>m} | D_{≤m}).

        By the chain rule it is Σ_{i>m} log p(yᵢ | y_<i), averaged over orderings of the data, at
        the hyperparameters that were learnt. It is the evidence under a data-dependent prior, the
        posterior P_m after m points: fit = E_Q[Σ_{i>m} log p(yᵢ | θ)] and complexity =
        KL(Q ‖ P_m), averaged too. The error includes the standard error of the average.

        Args:
            m: 0 ≤ m < n; 0 gives the evidence itself.
            orderings: the number of orderings; the first is that of the data, the others random.
            seed: of the random orderings.

        Returns:
            An `Evidence` of n − m observations, of the batch shape () or (B,).

        Raises:
            ValueError: m or orderings is out of range.

        Source: Lotfi et al. (2022), section 5.

        Example:
            >>> import bayesgen as bg
            >>> x = torch.linspace(-1, 1, 30, dtype=torch.float64)
            >>> bg.Polynomial(3).fit(x, torch.sin(3 * x)).conditional_evidence(10).n
            20
        """
        n = self.observed.n
        if isinstance(m, bool) or not isinstance(m, int) or not 0 <= m < n:
            raise ValueError(f"m must be an integer in 0..{n - 1}, got {m!r}")
        checks.whole("orderings", orderings)
        whole = self.evidence if self.observed.batched else self.evidence[None]
        each = [
            conditional.conditional(self, whole[b], b, m, orderings, seed)
            for b in range(len(self.observed.y))
        ]
        return combine(lambda *parts: self._each(torch.stack(parts)), *each)

    @abstractmethod
    def fitted(self) -> Tensor:
        """Posterior mean at the training inputs, of the targets' shape."""

    @abstractmethod
    def spectrum(self, task: int = 0) -> Spectrum:
        """Spectrum of K at unit outputscale, with one task's targets less the prior mean.

        Raises:
            ValueError: the noise differs between points, so that no one spectrum serves.
        """

    @abstractmethod
    def prior_mean(self) -> Tensor:
        """The prior's mean at the training inputs, (n, C)."""

    def _moved(self, other: ExactPosterior, **given: Any) -> Any:
        """Another posterior of the same data; a hyperparameter that was given was not learnt."""
        other.learnt = self.learnt - {name for name, value in given.items() if value is not None}
        return other

    @abstractmethod
    def covariance(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Posterior covariance of f(x1) and f(x2), of one task and any output, (m1, m2)."""

    def prior_at(self, x_new: Tensor, weights: Tensor) -> Tensor:
        """The function k(·, X)α at new points, (m, C), with k of unit outputscale, of one task.

        Args:
            x_new: (m, d).
            weights: α, (n, C).
        """
        gram, theta = self._prior()
        x_new = checks.real("x_new", checks.inputs("x_new", x_new), like=gram.x)
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
        """This posterior, of one task, as a prior for data that are still to come.

        Args:
            x_new: (m, d).
            y_new: (m, C).

        Returns:
            The spectrum of the covariance of f(x_new), outputscale included, with the targets less
            the mean; and that mean, (m, C).
        """

    @abstractmethod
    def gaussians(self, task: int) -> Iterator[conditional.JointNormal]:
        """The centred targets of one task with their covariance, grouped by noise."""

"""The interface that the posteriors of all models share, and the targets they were fitted to.

`Posterior` is the interface that exports, comparisons and risks need. `ExactPosterior` adds methods
for Gaussian noise, where the evidence obeys the chain rule exactly.
"""

from __future__ import annotations

import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from bayesgen import provenance
from bayesgen._internal import checks, deprecation
from bayesgen.covariance.gram import Gram
from bayesgen.data.columns import is_table
from bayesgen.evidence import Evidence, EvidenceParts, combine
from bayesgen.likelihoods.likelihood import Likelihood
from bayesgen.likelihoods.separable import Gaussian
from bayesgen.posterior import conditional
from bayesgen.posterior.traced import Traced, record_values
from bayesgen.spectrum.spectrum import Spectrum

A = ParamSpec("A")
R = TypeVar("R")

# Number of new points in one pass, which bounds the memory of a cross-covariance.
CHUNK = 2000
# Likelihood of real targets; its noise variance is not used.
_GAUSSIAN = Gaussian()


@dataclass(frozen=True)
class Observed:
    """The targets of a fit, as the user gave them.

    Attributes:
        y: targets in the likelihood's inner form, (B, n, C).
        shape: shape that the user passed, (n,), (n, C), (B, n) or (B, n, C).
        batched: whether the first axis of that shape is the batch of tasks.
        likelihood: the likelihood, which reads the numbers as reals, counts or labels.
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
        """The targets of one task, as if that task alone had been fitted."""
        if not self.batched:
            return self
        return replace(self, y=self.y[task][None], shape=self.shape[1:], batched=False)

    @property
    def n(self) -> int:
        """The number of observations of each task."""
        return self.y.shape[1]

    def fingerprint(self) -> Tensor:
        """A hash of each task's targets and of the kind of likelihood, (B,), int64, never 0."""
        return torch.tensor([self._hash(y) for y in self.y], dtype=torch.int64)

    def _hash(self, y: Tensor) -> int:
        digest = hashlib.sha256(f"{self.likelihood.kind} {tuple(y.shape)}".encode())
        digest.update(y.detach().double().cpu().contiguous().numpy().tobytes())
        return int.from_bytes(digest.digest()[:7], "little") + 1


def _with_checked_task(method: Callable[A, R]) -> Callable[A, R]:
    """A method of a posterior whose argument `task` is checked and becomes a Python integer."""
    place = deprecation.arguments(method).index("task")

    @functools.wraps(method)
    def call(*args: A.args, **kwargs: A.kwargs) -> R:
        given: list[Any] = list(args)
        count = len(given[0].observed.y)
        if kwargs.get("task") is not None:
            kwargs["task"] = checks.index("task", kwargs["task"], count)
        elif place < len(given) and given[place] is not None:
            given[place] = checks.index("task", given[place], count)
        return method(*given, **kwargs)

    return call


def _accept_tasks(cls: type[Any]) -> None:
    """Check the argument `task` in the public methods of a class, and accept its former name."""
    for name, method in list(vars(cls).items()):
        public = callable(method) and not name.startswith("_")
        if public and "task" in deprecation.arguments(method):
            setattr(cls, name, _with_checked_task(method))
    deprecation.old_task_argument(cls)


# Arguments that hold new inputs, in which a table is read by the names of its columns.
_INPUTS = ("x_new", "x1", "x2")


def _accept_tables(cls: type[Any]) -> None:
    """Let the public methods of a class that take new inputs read a DataFrame by column names."""
    for name, method in list(vars(cls).items()):
        public = callable(method) and not name.startswith("_")
        if public and set(_INPUTS) & set(deprecation.arguments(method)):
            setattr(cls, name, _with_columns_found(method))


def _with_columns_found(method: Callable[A, R]) -> Callable[A, R]:
    """A method of a posterior that codes a table as the table of the fit was coded."""
    names = deprecation.arguments(method)
    places = {name: names.index(name) for name in _INPUTS if name in names}

    @functools.wraps(method)
    def call(*args: A.args, **kwargs: A.kwargs) -> R:
        given: list[Any] = list(args)
        columns = given[0].columns
        if columns is None:
            return method(*args, **kwargs)
        for name, place in places.items():
            if is_table(kwargs.get(name)):
                kwargs[name] = columns.encode(kwargs[name], name)
            elif place < len(given) and is_table(given[place]):
                given[place] = columns.encode(given[place], name)
        return method(*given, **kwargs)

    return call


class Posterior(Traced, ABC):
    """A model conditioned on data, for one task or a batch of B.

    Attributes:
        evidence: the `Evidence`, batch shape () or (B,).
        observed: the targets.
        learnt: names of the hyperparameters that were learnt by this fit; `provenance` also knows
            of values that came from other fits.
        data_dependent: description of any other part of the prior that was taken from the data; ""
            where there is none.
        columns: the coding of the table that x was, by which methods read a table x_new; None where
            x was an array.
        target: name of the series that y was; "" where it had none.
        notes: sentences about rows of a table that were left out and columns that were coded.
    """

    evidence: Evidence
    observed: Observed
    learnt: frozenset[str] = frozenset()
    data_dependent: str = ""
    columns: Any = None
    target: str = ""
    notes: tuple[str, ...] = ()
    # Names of the columns of the inputs, () where they have none.
    _names: tuple[str, ...] = ()
    # Texts that the classes of a network stand for.
    _labels: tuple[Any, ...] | None = None

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        _accept_tasks(cls)
        record_values(cls)
        _accept_tables(cls)

    @property
    def classes(self) -> tuple[Any, ...] | None:
        """The labels of the classes in the order of the predicted probabilities.

        It is None where the targets are no class labels. The probability of a Bernoulli
        distribution is that of the second class.
        """
        if not self.observed.likelihood.labels:
            return None
        return self._labels or self.observed.likelihood.classes

    @property
    def looked(self) -> str:
        """The deprecated name of `data_dependent`."""
        deprecation.warn_renamed("posterior.looked", "posterior.data_dependent")
        return self.data_dependent

    def _observe(self, observed: Observed, found: Evidence | EvidenceParts) -> None:
        """Store the targets, and the evidence of batch shape (B,) with the targets' fingerprint."""
        self.observed, self._since = observed, provenance.now()
        mark = observed.fingerprint()
        if isinstance(found, EvidenceParts):
            if not observed.batched:
                found, mark = found.task(0), mark[0]
            self.evidence = found.evidence(mark)
        else:
            marked = replace(found, fingerprint=mark)
            self.evidence = marked if observed.batched else marked[0]

    def _plain(self, values: Tensor) -> Tensor:
        """Values (B, m, C) in the layout of the targets, without axes that the targets lack."""
        outputs_kept = len(self.observed.shape) - self.observed.batched == 2
        values = values if outputs_kept else values[..., 0]
        return values if self.observed.batched else values[0]

    def _each(self, values: Tensor) -> Tensor:
        """Values (B, ...) in the batch shape of the targets, (...) for one task."""
        return values if self.observed.batched else values[0]

    def task(self, task: int) -> Posterior:
        """The posterior of one task of a batch, as if that task alone had been fitted.

        Args:
            task: number of the task, 0 … B − 1.

        Raises:
            ValueError: there is no such task.
        """
        if self.observed.batched:
            raise ValueError(f"a {type(self).__name__} of a batch cannot be split by task")
        return self

    @abstractmethod
    def predict(self, x_new: Any, *, latent: bool = False) -> Distribution:
        """Marginal predictive distribution of each new observation.

        Args:
            x_new: new inputs.
            latent: True gives the distribution of the latent function values.
        """

    @abstractmethod
    def latent_samples(self, count: int, *, task: int = 0, seed: int = 0) -> Tensor:
        """Draws of the latent functions at the training inputs, (count, n, C).

        Args:
            count: number of draws, at least 1.
            task: number of the task in a batch.
            seed: seed of the draws.
        """

    @abstractmethod
    def observe(self, f: Tensor, *, task: int = 0) -> Distribution:
        """Distribution of the training targets given latent values f, (..., n, C)."""

    def log_likelihood(self, f: Tensor, *, task: int = 0) -> Tensor:
        """Log likelihood log p(yᵢ | fᵢ) of each row in nats, (..., n), for f (..., n, C)."""
        values = self.observe(f, task=task).log_prob(self.observed.y[task])
        return values.sum(-1)

    @abstractmethod
    def marginals(self, task: int = 0) -> tuple[Tensor, Tensor]:
        """Posterior mean and variances of the latent functions at the training inputs.

        Returns:
            The mean, (n, C), and the variances: (n, 1) where the outputs share them, (n, C), or
            covariances (n, C, C) between the outputs.
        """

    def parameters(self, count: int, *, task: int = 0, seed: int = 0) -> dict[str, Tensor]:
        """Named posterior draws for `Reporting.to_arviz`, each (count, ...)."""
        return {"f": self.latent_samples(count, task=task, seed=seed)}


_accept_tasks(Posterior)


class ExactPosterior(Posterior):
    """A posterior under Gaussian noise, whose evidence obeys the chain rule exactly."""

    _gram: Gram
    # The posterior of one task at other hyperparameters; the arguments depend on the model.
    at: Callable[..., ExactPosterior]

    @abstractmethod
    def task(self, task: int) -> ExactPosterior:
        """The posterior of one task; see `Posterior.task`."""

    def learning_curve(self, *, orderings: int = 1, task: int = 0, seed: int = 0) -> Tensor:
        """Log predictive density log p(yᵢ | y_<i) of each point given those before it, in nats.

        Args:
            orderings: number of orderings of the data, at least 1. The first is the given order,
                and the others are random.
            task: number of the task in a batch.
            seed: seed of the random orderings.

        Returns:
            (orderings, n); every row sums to the log marginal likelihood.

        Raises:
            ValueError: there is no such task; orderings is not a positive integer.

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
        return conditional.learning_curve(self, task, orderings, seed)

    def conditional_evidence(self, m: int, *, orderings: int = 20, seed: int = 0) -> Evidence:
        """Evidence of the data after the first m points, log p(D_{>m} | D_{≤m}).

        By the chain rule it is Σ_{i>m} log p(yᵢ | y_<i), averaged over orderings of the data, at
        the learnt hyperparameters. It is the evidence under a data-dependent prior, the posterior
        P_m after m points. Averaged over the same orderings, its parts are
        fit = E_Q[Σ_{i>m} log p(yᵢ | θ)] and complexity = KL(Q ‖ P_m). The error includes the
        standard error of the average.

        Args:
            m: number of points to condition on, 0 ≤ m < n; 0 gives the evidence itself.
            orderings: number of orderings; the first is the given order, and the others are random.
            seed: seed of the random orderings.

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
            ValueError: the noise variance differs between points, so that A is not sK + σ²I.
        """

    @abstractmethod
    def prior_mean(self) -> Tensor:
        """Prior mean of the latent functions at the training inputs, (n, C)."""

    @abstractmethod
    def covariance(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Posterior covariance of f(x1) and f(x2), (m1, m2), for any output of the one task."""

    def prior_at(self, x_new: Tensor, weights: Tensor) -> Tensor:
        """The function k(·, X)α at new points, (m, C), with k of unit outputscale, for one task.

        Args:
            x_new: new inputs, (m, d).
            weights: weights α, (n, C).
        """
        gram, theta = self._prior()
        x_new = checks.real("x_new", checks.inputs("x_new", x_new), like=gram.x)
        blocks = x_new.split(CHUNK)
        return torch.cat([gram.cross(rows)(theta) @ weights for rows in blocks])

    @abstractmethod
    def _prior(self) -> tuple[Gram, Tensor]:
        """Prior covariance of the first task, and its parameters."""

    @abstractmethod
    def mean(self, x_new: Any) -> Tensor:
        """Posterior mean at new points, in the layout of the targets."""

    @abstractmethod
    def as_prior(self, x_new: Tensor, y_new: Tensor) -> tuple[Spectrum, Tensor]:
        """This posterior, of one task, as a prior for new data.

        Args:
            x_new: new inputs, (m, d).
            y_new: new targets, (m, C).

        Returns:
            The spectrum of the covariance of f(x_new), which includes the outputscale, with the
            targets less their mean; and that mean, (m, C).
        """

    @abstractmethod
    def gaussians(self, task: int) -> Iterator[conditional.JointNormal]:
        """Joint distributions of one task's centred targets, one for each noise variance."""

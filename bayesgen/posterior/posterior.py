"""The interface that the posteriors of all models share, and the targets they were fitted to.

`Posterior` is the interface that exports, comparisons and risks need. `ExactPosterior` adds methods
for Gaussian noise, where the evidence obeys the chain rule exactly.
"""

from __future__ import annotations

import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from bayesgen import provenance
from bayesgen._internal import checks, deprecation
from bayesgen.covariance.gram import Gram
from bayesgen.evidence import Evidence, EvidenceParts, combine
from bayesgen.likelihoods.likelihood import Likelihood
from bayesgen.likelihoods.separable import Gaussian
from bayesgen.posterior import conditional
from bayesgen.provenance import Choice, Data, Learnt, Provenance, Source
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


class Posterior(ABC):
    """A model conditioned on data, for one task or a batch of B.

    Attributes:
        evidence: the `Evidence`, batch shape () or (B,).
        observed: the targets.
        learnt: names of the hyperparameters that were learnt by this fit; `provenance` also knows
            of values that came from other fits.
        data_dependent: description of any other part of the prior that was taken from the data; ""
            where there is none.
    """

    evidence: Evidence
    observed: Observed
    learnt: frozenset[str] = frozenset()
    data_dependent: str = ""
    # Choices that were paid for, the time at which the other values were stated, and hashes.
    _choices: tuple[Source, ...] = ()
    _since: int = 0
    _data: Data | None = None
    _provenance: tuple[Any, Provenance] | None = None

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        _accept_tasks(cls)

    @property
    def looked(self) -> str:
        """The deprecated name of `data_dependent`."""
        deprecation.warn_renamed("posterior.looked", "posterior.data_dependent")
        return self.data_dependent

    # ------------------------------------------------------------------ provenance

    @property
    def provenance(self) -> Provenance:
        """What of the model was stated, and what was learnt on some of the same observations.

        It is a property of the values: a learnt number that was passed on as a constant, a tensor,
        a kernel, a copy or a file is recognised. See `bayesgen.provenance`.
        """
        key = (self.learnt, self._choices, self._since)
        if self._provenance is None or self._provenance[0] != key:
            self._provenance = key, self._find_provenance()
        return self._provenance[1]

    def _find_provenance(self) -> Provenance:
        data = self._observations()
        own = [Source(name, data) for name in sorted(self.learnt)]
        paid = [s for s in self._choices if data is None or s.data is None or data.shared(s.data)]
        known = self.learnt | {s.what for s in paid}
        given = {name: of for name, of in self._given().items() if name not in known}
        found = [*provenance.sources(given, data, self._since), *self._beside()]
        found = [s for s in found if s.what not in known]
        return Provenance(data, tuple(dict.fromkeys([*own, *paid, *found])))

    def _observations(self) -> Data | None:
        """The observations of the fit, or None where its inputs are not kept."""
        if self._data is None:
            x = self._inputs()
            if x is not None:
                y = self.observed.y
                self._data = Data(x, y[0] if len(y) == 1 else y.movedim(1, 0))
        return self._data

    def _inputs(self) -> Tensor | None:
        """Inputs of the fit, (n, ...), or None where they are not kept."""
        return None

    def _given(self) -> Mapping[str, Sequence[Any]]:
        """The numbers, tensors, modules and functions that each part of the prior consists of."""
        return {}

    def _beside(self) -> tuple[Source, ...]:
        """Sources of parts that are not among `_given`: the inputs themselves."""
        data = self._observations()
        return () if data is None else provenance.feature_sources(data, self._since)

    def _orders(self, orders: Sequence[int]) -> tuple[Source, ...]:
        """Sources of the orders of a basis, where they were not learnt by this fit."""
        data = self._observations()
        if data is None or "order" in self.learnt:
            return ()
        each = [provenance.order_sources(k, self._kind(), data, self._since) for k in orders]
        return tuple(source for found in each for source in found)

    def _kind(self) -> str:
        """Name of the kind of basis of a linear model."""
        return ""

    def _as_sources(self) -> list[Source]:
        """Where a function of this posterior comes from."""
        data = self._observations()
        return [Source("function", data, f"the fit of {type(self).__name__}")]

    def _learn(self, values: Mapping[str, Learnt], on: Data | None = None, **more: Any) -> None:
        """Record what this fit has learnt, by value; see `bayesgen.provenance.learnt`."""
        data = self._observations() if on is None else on
        if values and data is not None:
            provenance.learnt(values, data, **more)
        self._since = provenance.now()

    def pay(self, names: Iterable[str], choice: Choice) -> None:
        """Record that parts of the model were chosen by these data, at a price in the bound."""
        names, data = set(names), self._observations()
        kept = tuple(s for s in self._choices if s.what not in names)
        self._choices = (*kept, *(Source(n, data, choice=choice) for n in sorted(names)))
        self.learnt -= names

    def chose(self, setting: Iterable[Any], how: str) -> None:
        """Record numbers that a search over models of these data has chosen.

        Args:
            setting: the numbers; anything else is left out.
            how: name of the search.
        """
        found = [v for v in setting if isinstance(v, int | float) and not isinstance(v, bool)]
        whole = [v for v in found if isinstance(v, int) and self._kind()]
        real = [v for v in found if not (isinstance(v, int) and self._kind())]
        values: dict[str, Learnt] = {
            name: (torch.tensor(real, dtype=torch.float64), None) for name in self._given() if real
        }
        if whole:
            orders = torch.tensor(whole, dtype=torch.float64)
            values[f"{provenance.ORDER}{self._kind()}"] = orders, None
        self._learn(values, how=how)

    def _part(self, other: Any) -> Any:
        """Set the provenance of another posterior of the same observations and values."""
        other.learnt, other._choices, other._since = self.learnt, self._choices, self._since
        return other

    # ------------------------------------------------------------------ inside

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
    _spectrum_known: bool = False
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

    def _moved(self, other: ExactPosterior, **given: Any) -> Any:
        """Set the provenance of another posterior of the same data, at given hyperparameters.

        A given value that coincides with one that was learnt on these data counts as learnt.
        """
        names = {name for name, value in given.items() if value is not None}
        self._part(other)
        if not names:
            return other
        now, data = self._given(), self._observations()
        moved = {name: of for name, of in other._given().items() if name in names}
        same = {name for name, of in moved.items() if provenance.coincide(of, now[name])}
        found = {s.what for s in provenance.sources(moved, data, provenance.now())}
        other.learnt = self.learnt - (names - same) | found
        other._choices = tuple(s for s in self._choices if s.what not in names - same)
        return other

    def tuned(self, names: frozenset[str]) -> Any:
        """Record that hyperparameters were tuned to a bound on these data, and return itself."""
        self.learnt |= names
        now = self._given()
        self._learn({name: (now[name][0], None) for name in names}, how="tuning to a bound")
        return self

    def _known(self, spectrum: Spectrum) -> Spectrum:
        """The spectrum of a task, recorded where its covariance was learnt."""
        if not self._spectrum_known and self.provenance.unpaid - {"scale", "noise", "mean"}:
            self._spectrum_known = True
            self._learn({"kernel": (spectrum.largest_nodes(), None)})
        return spectrum

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

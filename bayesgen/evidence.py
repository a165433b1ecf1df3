"""The log marginal likelihood of a model and its parts, as plain numbers.

`Evidence` is the central type of the package. This module imports no other module of the package.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

_ZERO = torch.zeros((), dtype=torch.float64)
_UNKNOWN = torch.zeros((), dtype=torch.int64)


class EvidenceParts(NamedTuple):
    """The parts of an `Evidence` without checks, for use inside a search.

    Attributes:
        fit, complexity, effective_dimension, error, jitter: as in `Evidence`, with one common batch
            shape.
        n, method: as in `Evidence`.
    """

    fit: Tensor
    complexity: Tensor
    effective_dimension: Tensor
    error: Tensor
    jitter: Tensor
    n: int
    method: str

    @property
    def log_marginal_likelihood(self) -> Tensor:
        """The log marginal likelihood in nats, of the batch shape."""
        return self.fit - self.complexity

    def map(self, function: Callable[..., Tensor], *others: EvidenceParts) -> EvidenceParts:
        """Apply a function to each tensor of these parts and the same tensor of the others."""
        every = (self, *others)
        return EvidenceParts(
            function(*[parts.fit for parts in every]),
            function(*[parts.complexity for parts in every]),
            function(*[parts.effective_dimension for parts in every]),
            function(*[parts.error for parts in every]),
            function(*[parts.jitter for parts in every]),
            self.n,
            self.method,
        )

    def task(self, index: int) -> EvidenceParts:
        """The parts of one task of a batch (B,), of batch shape ()."""
        return EvidenceParts(
            self.fit[index],
            self.complexity[index],
            self.effective_dimension[index],
            self.error[index],
            self.jitter[index],
            self.n,
            self.method,
        )

    def evidence(self, fingerprint: Tensor | None = None) -> Evidence:
        """The `Evidence` of these parts, which checks them.

        Args:
            fingerprint: hash of the targets, of the batch shape; None for unknown.
        """
        fit, complexity, dimension, error, jitter, n, method = self
        mark = _UNKNOWN if fingerprint is None else fingerprint
        return Evidence(fit, complexity, n, dimension, error, method, jitter, mark)


# The names of the tensors of `EvidenceParts`.
_TENSORS = EvidenceParts._fields[:5]


@dataclass(frozen=True, eq=False, repr=False)
class Evidence:
    """The log marginal likelihood of a model and its two parts: fit − complexity.

    For any prior P, likelihood and posterior Q,

        log p(D) = E_Q[log p(D | θ)] − KL(Q ‖ P),

    where Q is the exact posterior (conjugate models) or, for a Laplace approximation, where the log
    likelihood is replaced by its quadratic expansion about the mode. One object may hold a batch of
    tasks: every tensor has the batch shape (...), usually () or (B,). An Evidence holds numbers
    only. It can be pickled, and it keeps no data and no matrices in memory.

    Attributes:
        fit: expected log likelihood under the posterior, E_Q[log p(D | θ)], in nats.
        complexity: KL(Q ‖ P), in nats, at least 0.
        n: number of observations (rows, not rows × outputs).
        effective_dimension: Σ λᵢ/(λᵢ + α) summed over the outputs, at most n·C (Maddox et al.
            2020).
        error: a bound or a standard error of the log marginal likelihood, in nats: first-order
            rounding for exact methods, sampling error for stochastic ones.
        method: description of how it was computed.
        jitter: variance that was added to the diagonal of the covariance because a factorisation
            failed without it; 0 where none was added. The printed form shows it.
        fingerprint: a hash of the targets, int64 of the batch shape; 0 where it is unknown. Only
            evidences of the same targets can be compared.
        complexity_excludes: names of the parts of the model that were fitted to the same data and
            are not included in the complexity, such as "features". The log marginal likelihood is
            then too high.

    Raises:
        ValueError: a part is not finite; the complexity is negative; the shapes do not broadcast;
            n is less than 1.

    Source: the decomposition is the equality case of the evidence lower bound; Germain et al.
    (2016), section 3, for its reading as a PAC-Bayes bound.

    Example:
        >>> evidence = Evidence(fit=-10.0, complexity=2.5, n=5, effective_dimension=1.2)
        >>> float(evidence.log_marginal_likelihood), float(evidence.per_observation)
        (-12.5, -2.5)
    """

    fit: Tensor
    complexity: Tensor
    n: int
    effective_dimension: Tensor
    error: Tensor = _ZERO
    method: str = "exact"
    jitter: Tensor = _ZERO
    fingerprint: Tensor = _UNKNOWN
    complexity_excludes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.n, bool) or not isinstance(self.n, int) or self.n < 1:
            raise ValueError(f"n must be an integer of at least 1, got {self.n!r}")
        like = self.fit if isinstance(self.fit, Tensor) else _ZERO
        parts: dict[str, Tensor] = {}
        for name in _TENSORS:
            part = torch.as_tensor(getattr(self, name), dtype=like.dtype, device=like.device)
            if not part.detach().isfinite().all():
                raise ValueError(f"{name} must be finite, got {part}")
            parts[name] = part
        try:
            shape = torch.broadcast_shapes(*[part.shape for part in parts.values()])
        except RuntimeError:
            shapes = {name: tuple(part.shape) for name, part in parts.items()}
            raise ValueError(
                f"the parts of an Evidence must share a batch shape, got {shapes}"
            ) from None
        parts["fingerprint"] = torch.as_tensor(self.fingerprint, device=like.device)
        for name, part in parts.items():
            object.__setattr__(self, name, part if part.shape == shape else part.expand(shape))
        # Rounding can make a KL of 0 slightly negative; a value below that level is an error.
        slack = 1e3 * torch.finfo(like.dtype).eps * (1 + self.fit.detach().abs())
        if (self.complexity.detach() < -slack).any():
            raise ValueError(
                "complexity is a Kullback–Leibler divergence and must be at least 0, got "
                f"{self.complexity.min().item()}"
            )

    @property
    def log_marginal_likelihood(self) -> Tensor:
        """The log marginal likelihood log p(D) = fit − complexity in nats, of the batch shape."""
        return self.fit - self.complexity

    @property
    def per_observation(self) -> Tensor:
        """The value log p(D) / n, in nats per observation (all C outputs of a row together)."""
        return self.log_marginal_likelihood / self.n

    @property
    def bits(self) -> Tensor:
        """The value log₂ p(D) in bits; its negative is the length of the ideal code for D."""
        return self.log_marginal_likelihood / math.log(2.0)

    @property
    def batch_shape(self) -> torch.Size:
        """Shape of the batch of tasks; () for one task."""
        return self.fit.shape

    def log_bayes_factor(self, other: Evidence) -> Tensor:
        """Log Bayes factor log p(D | this) − log p(D | other) in nats.

        It is positive where this model has more evidence.

        Raises:
            TypeError: `other` is not an Evidence.
            ValueError: the two evidences are of different data.

        Source: Kass & Raftery (1995), eq. 1.

        Example:
            >>> a = Evidence(fit=-10.0, complexity=2.0, n=5, effective_dimension=1.0)
            >>> b = Evidence(fit=-9.0, complexity=6.0, n=5, effective_dimension=3.0)
            >>> float(a.log_bayes_factor(b))
            3.0
        """
        if not isinstance(other, Evidence):
            raise TypeError(f"other must be an Evidence, got {type(other).__name__}")
        same_data("this", self, "other", other)
        return self.log_marginal_likelihood - other.log_marginal_likelihood

    @property
    def parts(self) -> EvidenceParts:
        """The `EvidenceParts` of this Evidence, without its fingerprint."""
        return EvidenceParts(*(getattr(self, name) for name in EvidenceParts._fields))

    def conditional(self, *_: Any, **__: Any) -> Evidence:
        """Raise an error that names its replacement, `posterior.conditional_evidence`.

        Raises:
            AttributeError: always.
        """
        raise AttributeError(
            "an Evidence holds numbers only and cannot be split by observations: a posterior "
            "under Gaussian noise has posterior.conditional_evidence(m)"
        )

    def __getitem__(self, index: Any) -> Evidence:
        """The Evidence of some of the tasks, indexed as a tensor of the batch shape."""
        return combine(lambda values: values[index], self)

    def __getstate__(self) -> dict[str, Any]:
        # Pickling a view would store the whole tensor that it views.
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        return {k: v.clone() if isinstance(v, Tensor) else v for k, v in state.items()}

    def __repr__(self) -> str:
        def show(value: Tensor, spec: str = ".6g") -> str:
            if value.ndim == 0:
                return format(value.item(), spec)
            low, high = value.min().item(), value.max().item()
            return f"{low:{spec}} … {high:{spec}}"

        batch = f", batch {tuple(self.batch_shape)}" if self.batch_shape else ""
        bar = f" ± {show(self.error.max(), '.2g')}" if self._error_matters else ""
        text = (
            f"Evidence(log p(D) = {show(self.log_marginal_likelihood)} nats{bar}"
            f" = fit {show(self.fit)} − complexity {show(self.complexity)}, n = {self.n}{batch}, "
            f"effective dimension {show(self.effective_dimension, '.4g')}; {self.method}"
        )
        if (self.jitter > 0).any():
            text += f"; jitter {show(self.jitter.max(), '.2g')} was added to the diagonal"
        if self.complexity_excludes:
            text += f"; complexity excludes {' and '.join(self.complexity_excludes)}"
        return text + ")"

    @property
    def _error_matters(self) -> bool:
        # Six significant digits are printed; an error below the last one is not shown.
        size = self.log_marginal_likelihood.detach().abs()
        return bool((self.error > 1e-6 * torch.clamp(size, min=1.0)).any())


def same_data(name: str, one: Evidence, other_name: str, other: Evidence) -> None:
    """Check that two evidences are not known to be of different data.

    Args:
        name: name of the first evidence, for the message.
        one: the first evidence.
        other_name: name of the second evidence.
        other: the second evidence.

    Raises:
        ValueError: the numbers of observations differ; the fingerprints of the targets differ.
    """
    if one.n != other.n:
        raise ValueError(
            f"evidences compare models of the same data: {name} has n={one.n} observations, "
            f"{other_name} has n={other.n}"
        )
    mark, other_mark = one.fingerprint.cpu(), other.fingerprint.cpu()
    if ((mark != 0) & (other_mark != 0) & (mark != other_mark)).any():
        raise ValueError(
            f"evidences compare models of the same data: {name} and {other_name} were fitted to "
            "different targets (the same targets in another coding count as different)"
        )


def better(
    old: Evidence | EvidenceParts, new: Evidence | EvidenceParts
) -> Callable[[Tensor, Tensor], Tensor]:
    """A function that selects, for each task, between values of an old and a new setting.

    The function takes a and b, whose first axis is the batch (B,). It returns a for tasks where
    `old` has at least as much evidence as `new`, and b for the others.
    """
    won = new.log_marginal_likelihood > old.log_marginal_likelihood

    def pick(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(won.reshape(-1, *[1] * (b.ndim - 1)), b, a)

    return pick


def combine(function: Callable[..., Tensor], *evidences: Evidence) -> Evidence:
    """Apply a function to the same part of several evidences, for each part in turn.

    It serves to index, join and choose between batches of tasks of one data set.

    Args:
        function: function of one tensor for each evidence, each of its evidence's batch shape.
        evidences: at least one evidence; the result takes n and method from the first.

    Example:
        >>> a = Evidence(fit=-10.0, complexity=2.5, n=5, effective_dimension=1.2)
        >>> combine(lambda *parts: torch.stack(parts), a, a).batch_shape
        torch.Size([2])
    """
    names = (*_TENSORS, "fingerprint")
    parts: dict[str, Any] = {
        name: function(*(getattr(e, name) for e in evidences)) for name in names
    }
    first = evidences[0]
    return Evidence(
        n=first.n, method=first.method, complexity_excludes=first.complexity_excludes, **parts
    )

"""What of a posterior was stated and what was learnt; see `bayesgen.provenance`.

`Traced` is the part of every posterior that finds its provenance. The functions record choices that
a certificate or a search has made of a posterior. They are no methods, because a user has no use
for them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor

from bayesgen import provenance
from bayesgen.provenance import Data, Learnt, Payment, Provenance, Source
from bayesgen.spectrum.spectrum import Spectrum

T = TypeVar("T", bound="Traced")
A = ParamSpec("A")
R = TypeVar("R")


# Attributes that describe the table of a fit.
_TABLE = ("columns", "target", "notes", "_names", "_labels")


class Targets(Protocol):
    """The targets of a fit."""

    @property
    def y(self) -> Tensor:
        """Targets, (B, n, ...)."""
        ...


class Traced:
    """A posterior that knows which of its values were learnt, and on which observations.

    Attributes:
        learnt: names of the hyperparameters that were learnt by this fit.
    """

    observed: Targets
    learnt: frozenset[str] = frozenset()
    # Choices that were paid for, the time at which the other values were stated, and hashes.
    _choices: tuple[Source, ...] = ()
    _since: int = 0
    _data: Data | None = None
    _provenance: tuple[Any, Provenance] | None = None
    _origins: tuple[Any, tuple[Source, ...]] | None = None
    _spectrum_known: bool = False
    _shown: frozenset[bytes] = frozenset()

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

    def _range(self, taken: bool) -> tuple[Source, ...]:
        """The source of a basis whose stated range is that of the inputs."""
        if not taken:
            return ()
        return (Source("features", self._observations(), "the range of the inputs"),)

    def _kind(self) -> str:
        """Name of the kind of basis of a linear model."""
        return ""

    def learnt_from(self) -> list[Source]:
        """Where a function of this posterior comes from: its data, and those of its prior."""
        key = (self.learnt, self._choices, self._since)
        if self._origins is None or self._origins[0] != key:
            own = Source("function", self._observations(), f"the fit of {type(self).__name__}")
            every = provenance.sources(self._given(), None, self._since)
            found = dict.fromkeys([own, *self.provenance.sources, *every])
            self._origins = key, tuple(found)
        return list(self._origins[1])

    def _learn(self, values: Mapping[str, Learnt], on: Data | None = None, **more: Any) -> None:
        """Record what this fit has learnt, by value; see `bayesgen.provenance.learnt`."""
        data = self._observations() if on is None else on
        if values and data is not None:
            provenance.learnt(values, data, **more)
        self._since = provenance.now()

    def _show(self, values: Any, x_new: Any = None) -> None:
        """Record values of the posterior mean at the training inputs, which depend on the targets.

        Args:
            values: the values.
            x_new: the inputs; None for the training inputs.
        """
        x, data = self._inputs(), self._observations()
        if data is None or not isinstance(values, Tensor):
            return
        if x_new is not None and not _equal(x_new, x):
            return
        found = provenance.digests([values]) - self._shown
        if found:
            self._shown |= found
            provenance.learnt({}, data, f"the fit of {type(self).__name__}", digests=found)

    def _part(self, other: Any) -> Any:
        """Set the provenance of another posterior of the same observations and values."""
        other.learnt, other._choices, other._since = self.learnt, self._choices, self._since
        for name in _TABLE:
            if name in vars(self):
                setattr(other, name, vars(self)[name])
        return other

    def _moved(self, other: Any, **given: Any) -> Any:
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
        sources = provenance.sources(moved, data, provenance.now())
        found = {s.what for s in sources if s.choice is None}
        other.learnt = self.learnt - (names - same) | found
        other._choices = tuple(s for s in self._choices if s.what not in names - same)
        return other

    def _known(self, spectrum: Spectrum) -> Spectrum:
        """The spectrum of a task, which holds the payments for its covariance.

        A covariance that was learnt is recorded.
        """
        found = [s for s in self.provenance.sources if s.what not in {"scale", "noise", "mean"}]
        if not self._spectrum_known and any(s.choice is None for s in found):
            self._spectrum_known, data = True, self._observations()
            assert data is not None
            provenance.learnt({"kernel": (spectrum.largest_nodes(), None)}, data)
        paid = tuple(dict.fromkeys(s.choice for s in found if s.choice is not None))
        return replace(spectrum, payments=paid) if paid else spectrum


def record_values(cls: type[Any]) -> None:
    """Let the methods `mean` and `fitted` of a class record values at the training inputs."""
    for name in ("mean", "fitted"):
        method = vars(cls).get(name)
        if method is not None and not getattr(method, "__isabstractmethod__", False):
            setattr(cls, name, _recording(method))


def _recording(method: Callable[A, R]) -> Callable[A, R]:
    @functools.wraps(method)
    def call(*args: A.args, **kwargs: A.kwargs) -> R:
        values = method(*args, **kwargs)
        posterior: Any = args[0]
        posterior._show(values, *args[1:], **kwargs)
        return values

    return call


def _equal(one: Any, other: Any) -> bool:
    """Whether two inputs are equal tensors."""
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return False
    alike = one.shape == other.shape and one.dtype == other.dtype and one.device == other.device
    return alike and torch.equal(one, other)


def pay(posterior: Traced, names: Iterable[str], choice: Payment) -> None:
    """Record that parts of the model were chosen by these data, at a price in the bound."""
    names, data = set(names), posterior._observations()
    kept = tuple(s for s in posterior._choices if s.what not in names)
    posterior._choices = (*kept, *(Source(n, data, choice=choice) for n in sorted(names)))
    posterior.learnt -= names


def tuned(posterior: T, names: frozenset[str]) -> T:
    """Record that hyperparameters were tuned to a bound on these data, and return it."""
    posterior.learnt |= names
    now = posterior._given()
    posterior._learn({name: (now[name][0], None) for name in names}, how="tuning to a bound")
    return posterior


def chose(posterior: Traced, setting: Iterable[Any], how: str) -> None:
    """Record numbers that a search over models of these data has chosen.

    Args:
        setting: the numbers; anything else is left out.
        how: name of the search.
    """
    found = [v for v in setting if isinstance(v, int | float) and not isinstance(v, bool)]
    whole = [v for v in found if isinstance(v, int) and posterior._kind()]
    real = [v for v in found if not (isinstance(v, int) and posterior._kind())]
    values: dict[str, Learnt] = {
        name: (torch.tensor(real, dtype=torch.float64), None) for name in posterior._given() if real
    }
    if whole:
        orders = torch.tensor(whole, dtype=torch.float64)
        values[f"{provenance.ORDER}{posterior._kind()}"] = orders, None
    posterior._learn(values, how=how)

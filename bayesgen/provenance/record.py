"""The record of what was learnt in this process, by value, and the search for its sources."""

from __future__ import annotations

import functools
import inspect
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bayesgen.provenance.contents import (
    Contents,
    changed,
    contents,
    digest,
    digests as digests_,
    keys,
    mark,
    state_of,
    wanted,
)
from bayesgen.provenance.data import Data
from bayesgen.provenance.statement import Source
from bayesgen.provenance.targets import numbers

# Largest number of hashes and values that the record holds, and of fits.
_HELD, _FITS = 1 << 22, 1 << 15
# Largest number of values of one name that are recorded of a fit.
_NUMBERS = 256
# Number of entries below which a learnt tensor has no digest and is recorded by its numbers.
_FEW = 4
# Prefix of the name under which learnt orders of a kind of basis are recorded.
ORDER = "order of "

A = ParamSpec("A")
R = TypeVar("R")
# Learnt values, and those stated for them or None.
Learnt = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class _Learning:
    """What one fit has learnt.

    Attributes:
        serial: when.
        values: name → the values (k,) or (G, k) of G data sets, and those stated for them or None.
        digests: digests of tensors.
        data: the data of each of the G, or of all.
        how: what learnt them.
        features: the data whose rows of inputs are learnt features, if any.
        earlier: sources of what the fit has started from, on which its values depend too.
    """

    serial: int
    values: Mapping[str, Learnt]
    digests: frozenset[bytes]
    data: tuple[Data, ...]
    how: str
    features: Data | None = None
    earlier: tuple[Source, ...] = ()

    @property
    def size(self) -> int:
        """How many numbers are held."""
        numbers = sum(v.numel() for v, _ in self.values.values()) + len(self.digests)
        own = 0 if self.features is None else self.features.size
        return numbers + sum(d.size for d in self.data) + own + len(self.earlier) + 8

    def hash(self) -> None:
        """Replace the data by their hashes."""
        for data in (*self.data, *([] if self.features is None else [self.features])):
            data.hashed()

    def numbers(self) -> Iterator[tuple[str, int, float]]:
        """Name, number of the data set and value of each number that differs from the stated."""
        for name, (value, stated) in self.values.items():
            array = _array(value)
            if stated is not None:
                same = np.abs(array - _array(stated)) <= 1e-9 * np.abs(array)
                array = np.where(same, 0.0, array)
            for g, row in enumerate(array):
                for number in row[:_NUMBERS].tolist():
                    if number != 0:
                        yield name, g, number

    def of(self, g: int) -> Data:
        """The data of one of the G data sets."""
        return self.data[g if len(self.data) > 1 else 0]


def _array(value: Tensor) -> np.ndarray:
    array = value.detach().to(device="cpu", dtype=torch.float64).numpy()
    return array.reshape(1, -1) if array.ndim < 2 else array.reshape(len(array), -1)


class _Record:
    """What was learnt in this process; old entries are dropped above a fixed size."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fits: deque[_Learning] = deque()
        self._size = 0
        self._forget()

    def _forget(self) -> None:
        """Empty the index, which the next search makes again."""
        self._indexed = 0
        self._by_key: dict[str, list[tuple[int, _Learning, int]]] = {}
        self._by_order: dict[tuple[str, float], list[tuple[_Learning, int]]] = {}
        self._by_digest: dict[bytes, list[_Learning]] = {}
        self._of_features: list[_Learning] = []

    def add(self, learning: _Learning) -> None:
        """Record what a fit has learnt."""
        with self._lock:
            self._fits.append(learning)
            self._size += learning.size
            if self._size <= _HELD and len(self._fits) <= _FITS:
                return
            for old in self._fits:
                old.hash()
            self._size = sum(old.size for old in self._fits)
            while self._size > 0.75 * _HELD or len(self._fits) > 0.75 * _FITS:
                self._size -= self._fits.popleft().size
            self._forget()

    def find(self, found: Contents, data: Data | None, before: int, name: str) -> Iterator[Source]:
        """Sources of numbers and tensors that were learnt on some of the data before a time."""
        with self._lock:
            self._index()
            hits = [
                (learning, g)
                for number in found.numbers
                for key in wanted(number, name)
                for serial, learning, g in self._by_key.get(key, ())
                if serial < before
            ]
            hits += [
                (learning, 0)
                for digest in found.digests
                for learning in self._by_digest.get(digest, ())
                if learning.serial < before
            ]
        seen = set[Source]()
        for learning, g in hits:
            own = Source(name, learning.of(g), learning.how)
            for source in (own, *(replace(s, what=name) for s in learning.earlier)):
                if source not in seen and shares(data, source):
                    seen.add(source)
                    yield source

    def order(self, value: int, data: Data, before: int, kind: str) -> Iterator[Source]:
        """Sources of an order of a basis that was learnt on some of the data before a time."""
        with self._lock:
            self._index()
            hits = list(self._by_order.get((f"{ORDER}{kind}", value), ()))
        for learning, g in hits:
            if learning.serial < before and data.shared(learning.of(g)):
                yield Source("order", learning.of(g), learning.how)
                return

    def features(self, data: Data, before: int) -> Iterator[Source]:
        """Sources of rows of inputs that are learnt features of the observations themselves."""
        with self._lock:
            self._index()
            hits = list(self._of_features)
        for learning in hits:
            of = learning.features
            if of is not None and learning.serial < before and data.shared(of):
                yield Source("features", learning.data[0], learning.how)
                return

    def entries(self, found: Mapping[str, Contents], data: Data | None) -> list[_Learning]:
        """The fits whose values are among those found, by name, or whose features the data are."""
        with self._lock:
            self._index()
            hits = [
                learning
                for name, of in found.items()
                for number in of.numbers
                for key in wanted(number, name)
                for _, learning, _ in self._by_key.get(key, ())
            ]
            hits += [
                learning
                for of in found.values()
                for digest in of.digests
                for learning in self._by_digest.get(digest, ())
            ]
            hits += self._of_features
            orders = [fit for fits in self._by_order.values() for fit, _ in fits]
        near = {id(fit): fit for fit in hits if any(_near(data, d) for d in fit.data)}
        near |= {id(fit): fit for fit in self._of_features if _near(data, fit.features)}
        if data is not None:
            same = [fit for fit in orders if data.fingerprint in {d.fingerprint for d in fit.data}]
            near |= {id(fit): fit for fit in same}
        return sorted(near.values(), key=lambda fit: fit.serial)

    def restore(self, learnings: Sequence[_Learning]) -> None:
        """Add fits of another process, at the times that they had there."""
        known = {fit.serial for fit in list(self._fits)}
        for learning in learnings:
            if learning.serial not in known:
                self.add(learning)

    def _index(self) -> None:
        if self._indexed == len(self._fits):
            return
        for learning in list(self._fits)[self._indexed :]:
            for name, g, number in learning.numbers():
                if name.startswith(ORDER):
                    self._by_order.setdefault((name, number), []).append((learning, g))
                else:
                    for key in keys(number, name):
                        entry = (learning.serial, learning, g)
                        self._by_key.setdefault(key, []).append(entry)
            for one in learning.digests:
                self._by_digest.setdefault(one, []).append(learning)
            if learning.features is not None:
                self._of_features.append(learning)
        self._indexed = len(self._fits)


def shares(data: Data | None, source: Source) -> bool:
    """Whether a source may share observations with some data; None is unknown, which may."""
    return _near(data, source.data)


def _near(one: Data | None, other: Data | None) -> bool:
    """Whether two data sets may share observations; None is unknown, which may."""
    return one is None or other is None or one.shared(other) > 0


_RECORD = _Record()
_last = 0


def now() -> int:
    """The time in nanoseconds, larger at each call."""
    global _last
    _last = max(time.time_ns(), _last + 1)
    return _last


def learnt(
    values: Mapping[str, Learnt],
    data: Data | Sequence[Data],
    how: str = "",
    *,
    digests: frozenset[bytes] = frozenset(),
    features: Data | None = None,
    earlier: tuple[Source, ...] = (),
) -> None:
    """Record numbers that were learnt.

    Args:
        values: name → the learnt values (k,), or (G, k) for G data sets, and the values that were
            stated for them or None. Numbers that are as they were stated are not recorded.
        data: the data that they were learnt on, or those of each of the G.
        how: what learnt them.
        digests: digests of tensors that were learnt; see `digests_of`.
        features: the data whose rows of inputs are learnt features, if any.
        earlier: sources of what the fit has started from, on which the values depend too.
    """
    each = (data,) if isinstance(data, Data) else tuple(data)
    _RECORD.add(_Learning(now(), dict(values), digests, each, how, features, earlier))


def entries(given: Mapping[str, Sequence[Any]], data: Data | None) -> list[Any]:
    """What the record of this process holds of a model, for a file; see `restore`.

    Args:
        given: name of each part of the model → what it consists of.
        data: the data of the model.
    """
    return list(_RECORD.entries({name: contents(of) for name, of in given.items()}, data))


def restore(found: Sequence[Any]) -> None:
    """Add what `entries` has found in another process to the record of this one.

    Raises:
        TypeError: something else is among them.
    """
    if not all(isinstance(learning, _Learning) for learning in found):
        raise TypeError("the record of a file must hold what fits have learnt")
    _RECORD.restore(found)


@dataclass(frozen=True)
class Untrained:
    """What is known of a network before it is trained.

    Attributes:
        state: hashes of its parameters and buffers.
        sources: where its weights come from.
    """

    state: Mapping[str, bytes]
    sources: tuple[Source, ...]

    @classmethod
    def of(cls, net: nn.Module) -> Untrained:
        """What is known of a network now."""
        found = contents([net])
        known = _RECORD.find(Contents(digests=found.digests), None, now(), "features")
        marked = [s for m in found.marks if m.holds(found) for s in m.sources]
        every = (replace(s, what="features") for s in (*known, *marked, *found.sources))
        return cls(state_of(net), tuple(dict.fromkeys(every)))


def trained(
    net: nn.Module,
    x: Any,
    y: Tensor,
    how: str,
    *,
    before: Untrained,
    features: Data | None = None,
) -> None:
    """Record and mark the weights of a network that training has changed.

    They come from the data of the training and from those of the weights that it has started from.

    Args:
        net: the network, after training.
        x, y: inputs (n, …), or a tuple or mapping of them, and targets (n, …).
        how: what trained it.
        before: what was known of the network before.
        features: the data whose rows of inputs are its outputs at x, if known.
    """
    new = changed(net, before.state)
    if not new:
        return
    data, found = Data(x, y), contents(new)
    small = [t.detach().double().reshape(-1).cpu() for t in new if digest(t) is None]
    small = [t for t in small if len(t) < _FEW]
    values: dict[str, Learnt] = {"features": (torch.cat(small), None)} if small else {}
    own = Source("features", data, how)
    if any(s.data is not None and _same(s, own) for s in before.sources):
        own, data = next((s, s.data) for s in before.sources if _same(s, own) and s.data)
    earlier = tuple(s for s in before.sources if s is not own)
    flat = [p.detach().reshape(-1).double().cpu() for p in net.parameters() if not is_lazy(p)]
    vector = [torch.cat(flat)] if flat else []
    digests = digests_(vector) | found.digests
    _RECORD.add(_Learning(now(), values, digests, (data,), how, features, earlier))
    mark(net, [*earlier, own], new)


def _same(one: Source, other: Source) -> bool:
    """Whether two sources are the same, such as two trainings on the same data."""
    if one.data is None or other.data is None or one.how != other.how or one.data.n != other.data.n:
        return False
    return one.data.fingerprint == other.data.fingerprint


def training(how: str) -> Callable[[Callable[A, R]], Callable[A, R]]:
    """Decorate a function (net, x, y, …) that trains a network, or several (nets, x, y[b]).

    The networks whose weights have changed are recorded and marked, also after an exception.

    Args:
        how: name of the function.
    """

    def decorated(function: Callable[A, R]) -> Callable[A, R]:
        signature = inspect.signature(function)
        single = next(iter(signature.parameters)) != "nets"

        @functools.wraps(function)
        def call(*args: A.args, **kwargs: A.kwargs) -> R:
            try:
                given = list(signature.bind(*args, **kwargs).arguments.values())[:3]
            except TypeError:
                return function(*args, **kwargs)
            if len(given) < 3:
                return function(*args, **kwargs)
            one = isinstance(given[0], nn.Module)
            if single != one or not (one or isinstance(given[0], Iterable)):
                return function(*args, **kwargs)  # which refuses the argument
            nets = [given[0]] if single else list(given[0])
            if not single:  # an iterator can be read once
                args, kwargs = _with_first(signature, args, kwargs, nets)
            before = [Untrained.of(net) for net in nets if isinstance(net, nn.Module)]
            try:
                return function(*args, **kwargs)
            finally:
                found = [
                    (b, net, was)
                    for b, (net, was) in enumerate(zip(nets, before, strict=False))
                    if changed(net, was.state)
                ]
                for b, net, was in found:
                    y = numbers(given[2])
                    trained(net, given[1], y if single else y[b], how, before=was)
                if len(found) == len(nets) > 1:
                    _stacked(nets, given[1], numbers(given[2]), how)

        return call

    return decorated


def _stacked(nets: Sequence[nn.Module], x: Any, y: Tensor, how: str) -> None:
    """Record the parameters of networks of one kind, stacked by name, as `torch.func` does."""
    named = [dict(net.named_parameters()) for net in nets]
    if any({k: p.shape for k, p in of.items()} != {k: p.shape for k, p in named[0].items()}
           for of in named):  # fmt: skip
        return
    stacks = [torch.stack([of[name].detach().cpu() for of in named]) for name in named[0]]
    data = Data(x, y.movedim(0, 1))
    _RECORD.add(_Learning(now(), {}, digests_(stacks), (data,), how))


def _with_first(signature: inspect.Signature, args: Any, kwargs: Any, first: Any) -> Any:
    bound = signature.bind(*args, **kwargs)
    bound.arguments[next(iter(bound.arguments))] = first
    return bound.args, bound.kwargs


def sources(
    given: Mapping[str, Sequence[Any]],
    data: Data | None,
    before: int,
    *,
    apart: Iterable[Tensor] = (),
) -> tuple[Source, ...]:
    """The parts of a model that were learnt on some of the data.

    Args:
        given: name of each part → the numbers, tensors, modules and functions that it consists of.
        data: the data of the model; None if unknown, which counts as sharing all.
        before: time at which the parts were stated; see `now`.
        apart: tensors that are left out.
    """
    apart = tuple(apart)
    result: list[Source] = []
    for name, things in given.items():
        found = contents(things, apart=apart)
        result += _RECORD.find(found, data, before, name)
        of_marks = [s for m in found.marks if m.holds(found) for s in m.sources]
        for source in (*of_marks, *found.sources):
            if shares(data, source):
                result.append(Source(name, source.data, source.how, source.choice))
    return tuple(dict.fromkeys(result))


def order_sources(value: int, kind: str, data: Data, before: int) -> tuple[Source, ...]:
    """Sources of an order of a basis of one kind; see `sources`."""
    return tuple(_RECORD.order(value, data, before, kind))


def feature_sources(data: Data, before: int) -> tuple[Source, ...]:
    """Sources of inputs that are learnt features; see `sources`."""
    return tuple(_RECORD.features(data, before))

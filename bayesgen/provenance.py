"""Where the numbers of a model come from: stated, or learnt on which data, and whether paid for.

A PAC-Bayes certificate holds for a prior that was chosen without the data in the bound. Whether a
number was learnt is a property of the number and not of the name or object that holds it. Each fit
therefore records what it has learnt, by value, with the inputs that it was learnt on. A certificate
looks up every number that shapes its prior: hyperparameters, weights of networks in kernels, bases
and prior means, and what functions of the user refer to. A number that coincides with one that was
learnt on some of the same observations counts as learnt on them. Numbers that were learnt on other
observations count as stated, which is the point of a split.

The record belongs to the process. Kernels that a posterior returns and networks that were trained
here also carry a `Mark`, which copies and pickles of them keep. It counts while at least one value
is the recorded one.

Two data sets share observations where they share a row of inputs with its target, in single
precision and whatever the coding of classes (signs, one-hot rows or numbers), or more than a tenth
of their inputs: a prior that depends on the inputs of the sample depends on the sample.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import math
import threading
import time
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from bayesgen._internal import checks

# Largest number of rows that are kept of one data set: those of the smallest hashes.
_ROWS = 1 << 16
# Share of the inputs of the smaller of two data sets up to which they may coincide by chance, as the
# ends of intervals do.
_FEW = 0.1
# Largest number of hashes and values that the record holds, and of fits.
_HELD, _FITS = 1 << 22, 1 << 15
# Relative distance up to which two numbers are the same, which float32 needs.
_SAME = 1e-6
# Smallest number of significant digits at which a rounded copy of a learnt number is recognised.
_DIGITS = 4
# Largest number of entries of a tensor that are looked up one by one.
ENTRIES = 64
# Largest depth and number of objects in a search through what a function refers to.
_DEPTH, _OBJECTS = 8, 5000
# Largest number of values of one name that are recorded of a fit.
_NUMBERS = 256
# Prefix of the name under which learnt orders of a kind of basis are recorded.
ORDER = "order of "
# Name of the attribute that holds a mark.
_MARK = "_bayesgen_learnt"
# Number of entries that are hashed at a time.
_CHUNK = 1 << 16

A = ParamSpec("A")
R = TypeVar("R")
M = TypeVar("M", bound=nn.Module)
# Learnt values, and those stated for them or None.
Learnt = tuple[Tensor, Tensor | None]


# --------------------------------------------------------------------------- data


def row_hashes(x: Tensor) -> np.ndarray:
    """A hash of each row of x (n, ...), in single precision, (n,) uint64."""
    flat = x.detach().reshape(len(x), -1)
    step = max(1, _CHUNK // max(1, flat.shape[1]))
    return np.concatenate([_hashed(part) for part in flat.split(step)])


def _hashed(rows: Tensor) -> np.ndarray:
    values = rows.to(device="cpu", dtype=torch.float32) + 0.0  # −0 becomes 0
    mixed = values.contiguous().numpy().view(np.uint32).astype(np.uint64)
    mixed *= _SPREAD
    mixed ^= mixed >> np.uint64(29)
    mixed *= _factors(mixed.shape[1])
    total: np.ndarray = mixed.sum(1, dtype=np.uint64)
    total ^= total >> np.uint64(32)
    return total


_SPREAD = np.uint64(0x9E3779B97F4A7C15)


@functools.lru_cache(maxsize=16)
def _factors(d: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1 << 64, d, dtype=np.uint64) | np.uint64(1)


def _smallest(hashes: np.ndarray) -> np.ndarray:
    return np.unique(hashes if len(hashes) <= _ROWS else np.partition(hashes, _ROWS)[:_ROWS])


def _classes(y: Tensor) -> Tensor:
    """Targets (n, ...) as class numbers where they are coded classes, else as they are."""
    flat = y.detach().reshape(len(y), -1)
    if flat.shape[1] == 1:
        size = flat.abs()
        if not bool((flat >= 0).all()) and bool((size == size[0]).all()):
            return (flat > 0).float()
        return flat
    low, high = flat.amin(), flat.amax()
    top = flat == high
    coded = bool((top | (flat == low)).all()) and bool((top.sum(1) == 1).all())
    return flat.argmax(1, keepdim=True) if coded else flat


class Data:
    """The observations of a fit or of a certificate, by hashes that are made when first needed.

    Args:
        x: inputs, (n, ...).
        y: targets in the order of the rows, (n, ...), for the fingerprint; or None.
    """

    def __init__(self, x: Tensor, y: Tensor | None = None) -> None:
        self.n = len(x)
        self._held: tuple[Tensor, Tensor | None] | None = (x.detach(), y)
        self._made: tuple[np.ndarray, np.ndarray, int] | None = None

    @property
    def size(self) -> int:
        """How many numbers are held."""
        if self._held is None:
            return min(self.n, _ROWS)
        return sum(t.numel() for t in self._held if t is not None)

    def hashed(self) -> tuple[np.ndarray, np.ndarray, int]:
        """Sorted hashes of the inputs and of the observations, and the fingerprint."""
        if self._made is None:
            assert self._held is not None
            x, y = self._held
            rows = row_hashes(x)
            pairs = rows if y is None else rows ^ (row_hashes(_classes(y)) * _SPREAD)
            pairs = (pairs ^ (pairs >> np.uint64(31))) * _SPREAD
            total = int(pairs.sum(dtype=np.uint64))
            self._made = _smallest(rows), _smallest(pairs), total
            self._held = None
        return self._made

    @property
    def fingerprint(self) -> str:
        """A hash of the pairs of inputs and targets, whatever their order."""
        return f"{self.hashed()[2]:016x}"

    def shared(self, other: Data) -> int:
        """How many rows the data share, or 0 where a few inputs coincide but no observation does.

        Of more than 65,536 rows, those kept are counted.
        """
        (x, pairs, _), (x2, pairs2, _) = self.hashed(), other.hashed()
        inputs = len(np.intersect1d(x, x2, assume_unique=True))
        if inputs > _FEW * min(len(x), len(x2)):
            return inputs
        return len(np.intersect1d(pairs, pairs2, assume_unique=True))

    def __getstate__(self) -> dict[str, Any]:
        """The hashes only."""
        return {"n": self.n, "_held": None, "_made": self.hashed()}

    def __deepcopy__(self, _: Any) -> Data:
        return self

    def __str__(self) -> str:
        return f"{self.n:,} observations ({self.fingerprint})"


# --------------------------------------------------------------------------- statements


@dataclass(frozen=True)
class Choice:
    """A choice that depends on data, with its price in a bound.

    Attributes:
        reason: description of the choice.
        nats: −ln of its prior probability.
    """

    reason: str
    nats: float


@dataclass(frozen=True)
class Source:
    """Where one part of a model comes from, if it was not stated.

    Attributes:
        what: the part: "kernel", "scale", "noise", "decay", "order", "mean", "features", …
        data: the data that it was learnt on; None where they are the data of the model itself.
        how: what learnt it, such as "bayesgen.train"; "" for the fit of the model itself.
        choice: the price of the part, where it was chosen among stated values; None if unpaid.
    """

    what: str
    data: Data | None
    how: str = ""
    choice: Choice | None = None


@dataclass(frozen=True)
class Provenance:
    """What of a posterior was stated and what was learnt; its `str` says so.

    Attributes:
        data: the data of the posterior; None where its inputs are not kept.
        sources: parts that were learnt on some of the same observations. Other parts were stated,
            or learnt on other data.
    """

    data: Data | None
    sources: tuple[Source, ...] = ()

    @property
    def unpaid(self) -> frozenset[str]:
        """Names of the parts that were learnt on the same observations and not paid for."""
        return frozenset(s.what for s in self.sources if s.choice is None)

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The choices that were made by the same observations at a price."""
        return tuple(dict.fromkeys(s.choice for s in self.sources if s.choice is not None))

    def describe(self, names: Sequence[str]) -> str:
        """What was learnt, on what and how, of the parts with these names, as one clause."""
        groups: dict[str, list[str]] = {}
        for name in names:
            first = next(s for s in self.sources if s.what == name and s.choice is None)
            groups.setdefault(self._origin(first), []).append(name)
        return "; ".join(
            f"{', '.join(parts)} {'was' if len(parts) == 1 else 'were'} learnt from {origin}"
            for origin, parts in groups.items()
        )

    def _origin(self, source: Source) -> str:
        how = f" by {source.how}" if source.how else ""
        if source.data is None or self.data is None or source.data is self.data:
            return f"the data{how}"
        shared = self.data.shared(source.data)
        return f"{source.data}{how}, which share {shared:,} rows with these"

    def __str__(self) -> str:
        own = "" if self.data is None else f" Data: {self.data}."
        if not self.sources:
            return f"Everything was stated, or learnt on other data.{own}"
        said = [
            f"{s.what} {'' if s.choice is None else 'was paid for: '}"
            + (f"learnt from {self._origin(s)}" if s.choice is None else f"{s.choice.reason}")
            for s in self.sources
        ]
        return f"{'; '.join(said)}. Everything else was stated.{own}"


# --------------------------------------------------------------------------- marks and the record


@dataclass(frozen=True)
class Mark:
    """What an object holds of learnt numbers; it counts while one of them is still held.

    Attributes:
        numbers: the learnt numbers.
        digests: digests of the learnt tensors.
        sources: where they come from.
    """

    numbers: tuple[float, ...]
    digests: frozenset[bytes]
    sources: tuple[Source, ...]

    def holds(self, found: Contents) -> bool:
        """Whether some number or tensor is still the recorded one."""
        if not self.digests.isdisjoint(found.digests):
            return True
        keys = {key for number in self.numbers for key in _keys(number)}
        return any(not keys.isdisjoint(_wanted(number)) for number in found.numbers)


@dataclass
class Contents:
    """What a search through an object found.

    Attributes:
        numbers: numbers, in natural units where a constraint transforms a parameter.
        digests: digests of tensors of four or more entries that differ.
        marks: marks.
        sources: sources that posteriors give.
    """

    numbers: list[float] = field(default_factory=list)
    digests: set[bytes] = field(default_factory=set)
    marks: list[Mark] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)


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
    """

    serial: int
    values: Mapping[str, Learnt]
    digests: frozenset[bytes]
    data: tuple[Data, ...]
    how: str
    features: Data | None = None

    @property
    def size(self) -> int:
        """How many numbers are held."""
        numbers = sum(v.numel() for v, _ in self.values.values()) + len(self.digests)
        own = 0 if self.features is None else self.features.size
        return numbers + sum(d.size for d in self.data) + own + 8

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
        self._size = self._indexed = 0
        self._by_key: dict[str, list[tuple[int, _Learning, int]]] = {}
        self._by_digest: dict[bytes, list[_Learning]] = {}

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
            self._indexed = 0
            self._by_key.clear()
            self._by_digest.clear()

    def find(self, found: Contents, data: Data | None, before: int, name: str) -> Iterator[Source]:
        """Sources of numbers and tensors that were learnt on some of the data before a time."""
        with self._lock:
            self._index()
            hits = [
                (learning, g)
                for number in found.numbers
                for key in _wanted(number, name)
                for serial, learning, g in self._by_key.get(key, ())
                if serial < before
            ]
            hits += [
                (learning, 0)
                for digest in found.digests
                for learning in self._by_digest.get(digest, ())
                if learning.serial < before
            ]
        seen = set()
        for learning, g in hits:
            of = learning.of(g)
            if id(of) not in seen and (data is None or data.shared(of)):
                seen.add(id(of))
                yield Source(name, of, learning.how)

    def order(self, value: int, data: Data, before: int, kind: str) -> Iterator[Source]:
        """Sources of an order of a basis that was learnt on some of the data before a time."""
        for learning in list(self._fits):
            if learning.serial >= before or f"{ORDER}{kind}" not in learning.values:
                continue
            for name, g, number in learning.numbers():
                if name == f"{ORDER}{kind}" and number == value and data.shared(learning.of(g)):
                    yield Source("order", learning.of(g), learning.how)
                    return

    def features(self, data: Data, before: int) -> Iterator[Source]:
        """Sources of rows of inputs that are learnt features of the observations themselves."""
        for learning in list(self._fits):
            of = learning.features
            if of is not None and learning.serial < before and data.shared(of):
                yield Source("features", learning.data[0], learning.how)
                return

    def _index(self) -> None:
        if self._indexed == len(self._fits):
            return
        for learning in list(self._fits)[self._indexed :]:
            for name, g, number in learning.numbers():
                if not name.startswith(ORDER):
                    for key in _keys(number, name):
                        entry = (learning.serial, learning, g)
                        self._by_key.setdefault(key, []).append(entry)
            for digest in learning.digests:
                self._by_digest.setdefault(digest, []).append(learning)
        self._indexed = len(self._fits)


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
) -> None:
    """Record numbers that were learnt.

    Args:
        values: name → the learnt values (k,), or (G, k) for G data sets, and the values that were
            stated for them or None. Numbers that are as they were stated are not recorded.
        data: the data that they were learnt on, or those of each of the G.
        how: what learnt them.
        digests: digests of tensors that were learnt; see `digests_of`.
        features: the data whose rows of inputs are learnt features, if any.
    """
    each = (data,) if isinstance(data, Data) else tuple(data)
    _RECORD.add(_Learning(now(), dict(values), digests, each, how, features))


def mark(module: M, sources: Sequence[Source]) -> M:
    """Attach a mark to a module, which its copies and pickles keep, and return the module.

    Args:
        module: a kernel or a network that holds learnt numbers.
        sources: where they come from; with none, no mark is attached.
    """
    if not sources:
        return module
    found = Contents()
    _search(module, found, set(), 0)
    setattr(module, _MARK, Mark(tuple(found.numbers), frozenset(found.digests), tuple(sources)))
    return module


def trained(
    net: nn.Module, x: Tensor, y: Tensor, how: str, *, features: Data | None = None
) -> None:
    """Record and mark the weights of a network that was trained.

    Args:
        net: the network, after training.
        x, y: inputs (n, …) and targets (n, …).
        how: what trained it.
        features: the data whose rows of inputs are its outputs at x, if known.
    """
    data = Data(x, y)
    _RECORD.add(_Learning(now(), {}, digests_of(net), (data,), how, features))
    mark(net, [Source("features", data, how)])


def training(how: str) -> Callable[[Callable[A, R]], Callable[A, R]]:
    """Decorate a function (net, x, y, …) that trains a network, or several (nets, x, y[b]), in place.

    The networks whose weights have changed are recorded and marked, also after an exception.

    Args:
        how: name of the function.
    """

    def decorated(function: Callable[A, R]) -> Callable[A, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: A.args, **kwargs: A.kwargs) -> R:
            try:
                given = list(signature.bind(*args, **kwargs).arguments.values())[:3]
            except TypeError:
                return function(*args, **kwargs)
            single = isinstance(given[0], nn.Module)
            nets = [given[0]] if single else list(given[0])
            if not single:  # an iterator can be read once
                args, kwargs = _with_first(signature, args, kwargs, nets)
            before = [digests_of(net) for net in nets if isinstance(net, nn.Module)]
            try:
                return function(*args, **kwargs)
            finally:
                for b, (net, was) in enumerate(zip(nets, before, strict=False)):
                    if digests_of(net) != was:
                        x, y = (checks.as_tensor("data", part) for part in given[1:])
                        trained(net, x, y if single else y[b], how)

        return call

    return decorated


def _with_first(signature: inspect.Signature, args: Any, kwargs: Any, first: Any) -> Any:
    bound = signature.bind(*args, **kwargs)
    bound.arguments[next(iter(bound.arguments))] = first
    return bound.args, bound.kwargs


def digests_of(module: nn.Module) -> frozenset[bytes]:
    """Digests of the tensors of a module that tell it from others."""
    found = (digest(t) for t in (*module.parameters(), *module.buffers()))
    return frozenset(d for d in found if d is not None)


def digest(tensor: Tensor) -> bytes | None:
    """A digest of a tensor's values in single precision; None for one that tells nothing."""
    if tensor.numel() < 4 or not (tensor.is_floating_point()) or tensor.layout != torch.strided:
        return None
    flat = tensor.detach().reshape(-1)
    if bool((flat == flat[0]).all()):
        return None
    values = (flat.to(device="cpu", dtype=torch.float32) + 0.0).contiguous().numpy()
    return hashlib.blake2b(values.tobytes(), digest_size=12).digest()


def sources(
    given: Mapping[str, Sequence[Any]], data: Data | None, before: int
) -> tuple[Source, ...]:
    """The parts of a model that were learnt on some of the data.

    Args:
        given: name of each part → the numbers, tensors, modules and functions that it consists of.
        data: the data of the model; None if unknown, which counts as sharing all.
        before: time at which the parts were stated; see `now`.
    """
    result: list[Source] = []
    for name, things in given.items():
        found = Contents()
        seen: set[int] = set()
        for thing in things:
            _search(thing, found, seen, 0)
        result += _RECORD.find(found, data, before, name)
        of_marks = [s for m in found.marks if m.holds(found) for s in m.sources]
        for source in (*of_marks, *found.sources):
            if data is None or source.data is None or data.shared(source.data):
                result.append(Source(name, source.data, source.how, source.choice))
    return tuple(dict.fromkeys(result))


def coincide(new: Sequence[Any], old: Sequence[Any]) -> bool:
    """Whether some number or tensor of the new parts is one of the old ones, or a rounded copy."""
    parts = []
    for things in (new, old):
        found, seen = Contents(), set[int]()
        for thing in things:
            _search(thing, found, seen, 0)
        parts.append(found)
    return Mark(tuple(parts[1].numbers), frozenset(parts[1].digests), ()).holds(parts[0])


def shared_rows(x: Tensor, data: Data) -> Tensor:
    """Which rows of inputs x (n, ...) are among those of the data, (n,) bool."""
    return torch.from_numpy(np.isin(row_hashes(x), data.hashed()[0]))


def order_sources(value: int, kind: str, data: Data, before: int) -> tuple[Source, ...]:
    """Sources of an order of a basis of one kind; see `sources`."""
    return tuple(_RECORD.order(value, data, before, kind))


def feature_sources(data: Data, before: int) -> tuple[Source, ...]:
    """Sources of inputs that are learnt features; see `sources`."""
    return tuple(_RECORD.features(data, before))


# --------------------------------------------------------------------------- numbers


def _keys(number: float, name: str = "") -> set[str]:
    """The keys under which a learnt number is recorded.

    They are its value under its name; and, unless it is round, its value under any name and its
    roundings to four, five and six digits.
    """
    if not math.isfinite(number) or number == 0:
        return set()
    near = (number, number * (1 + _SAME), number * (1 - _SAME))
    keys = {f"{name}={v:.6e}" for v in near}
    if _digits(number) >= _DIGITS:
        keys |= {f"={v:.6e}" for v in near}
        keys |= {f"{number:.{k - 1}e}" for k in range(_DIGITS, 7)}
    return keys


def _wanted(number: float, name: str = "") -> set[str]:
    """The keys under which a number is looked up.

    A number of four to six significant digits may be a rounded copy of a learnt one, and is one
    under any name. A round number must be the learnt one itself, under the same name.
    """
    if not math.isfinite(number) or number == 0:
        return set()
    keys, digits = {f"{name}={number:.6e}"}, _digits(number)
    if digits >= _DIGITS:
        keys |= {f"={number:.6e}", f"{number:.{digits - 1}e}"}
    return keys


def _digits(number: float) -> int:
    """The number of significant digits, at most six."""
    return len(f"{number:.5e}".split("e")[0].lstrip("-").replace(".", "").rstrip("0"))


# --------------------------------------------------------------------------- search


def _search(thing: Any, found: Contents, seen: set[int], depth: int) -> None:
    """Collect what an object consists of: numbers, tensors, marks and posteriors."""
    if thing is None or isinstance(thing, bool | str | bytes | types.ModuleType | type):
        return
    if isinstance(thing, int | float | np.number):
        found.numbers.append(float(thing))
        return
    if depth > _DEPTH or len(seen) > _OBJECTS or id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, Tensor):
        _tensor(thing, found)
    elif isinstance(thing, np.ndarray):
        if thing.dtype.kind == "f" and thing.size:
            _tensor(torch.from_numpy(thing.astype(np.float64)), found)
    elif hasattr(thing, "_as_sources"):
        found.sources += thing._as_sources()
    else:
        for part in _parts(thing, found):
            _search(part, found, seen, depth + 1)


def _parts(thing: Any, found: Contents) -> list[Any]:
    own = getattr(thing, "__dict__", {}).get(_MARK)
    if isinstance(own, Mark):
        found.marks.append(own)
    if isinstance(thing, nn.Module):
        return _module(thing)
    if isinstance(thing, functools.partial):
        return [thing.func, *thing.args, *thing.keywords.values()]
    if isinstance(thing, types.MethodType):
        return [thing.__self__, thing.__func__]
    if isinstance(thing, types.FunctionType):
        cells = []
        for cell in thing.__closure__ or ():
            try:
                cells.append(cell.cell_contents)
            except ValueError:  # not yet set
                continue
        defaults = [*(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values()]
        names = thing.__code__.co_names
        outer = [thing.__globals__[name] for name in names if name in thing.__globals__]
        constants = [c for c in thing.__code__.co_consts if isinstance(c, float)]
        return [*cells, *defaults, *constants, *outer]
    if isinstance(thing, Mapping):
        return list(thing.values())
    if isinstance(thing, list | tuple | set | frozenset):
        return list(thing)
    if type(thing).__module__.partition(".")[0] in ("torch", "numpy", "builtins"):
        return []
    return list(getattr(thing, "__dict__", {}).values())


def _module(module: nn.Module) -> list[Any]:
    """Parameters in natural units, buffers, parts and other attributes of a module."""
    constraints = getattr(module, "_constraints", {})
    values = []
    for name, raw in module._parameters.items():
        if raw is None:
            continue
        rule = constraints.get(f"{name}_constraint")
        values.append(raw.detach() if rule is None else rule.transform(raw.detach()))
    hidden = {"_parameters", "_buffers", "_modules", _MARK}
    library = type(module).__module__.partition(".")[0] in ("torch", "gpytorch")
    rest = [] if library else [v for k, v in module.__dict__.items() if k not in hidden]
    if library:  # a kernel from a function, and the like
        rest = [v for k, v in module.__dict__.items() if k not in hidden and callable(v)]
    buffers = [b for b in module._buffers.values() if b is not None]
    own = [m for m in module._modules.values() if m is not None and not _is_constraint(m)]
    return [*values, *buffers, *own, *rest]


def _is_constraint(module: nn.Module) -> bool:
    return hasattr(module, "inverse_transform") and hasattr(module, "lower_bound")


def _tensor(tensor: Tensor, found: Contents) -> None:
    own = getattr(tensor, "__dict__", {}).get(_MARK)
    if isinstance(own, Mark):
        found.marks.append(own)
    if tensor.layout != torch.strided or not tensor.is_floating_point() or not tensor.numel():
        return
    flat = tensor.detach().reshape(-1)[:ENTRIES]
    found.numbers += flat.to(device="cpu", dtype=torch.float64).tolist()
    whole = digest(tensor)
    if whole is not None:
        found.digests.add(whole)

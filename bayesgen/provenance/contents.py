"""What an object consists of: its numbers, tensors and marks, and those of what it refers to.

Kernels, networks and functions of the user are searched through their parameters, closures, bound
objects, arguments, classes and the globals that their code names; see `bayesgen.provenance.code`.
"""

from __future__ import annotations

import functools
import hashlib
import math
import numbers
import types
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Transform
from torch.nn.parameter import is_lazy

from bayesgen.provenance import code
from bayesgen.provenance.statement import Source

# Relative distance up to which two numbers are the same, which float32 needs.
_SAME = 1e-6
# Smallest number of significant digits at which a rounded copy of a learnt number is recognised.
_DIGITS = 4
# Largest number of entries of a tensor that are looked up one by one.
ENTRIES = 64
# Largest number of entries of an array that is taken for a constant among a network's attributes.
_CONSTANT = 8
# Largest depth and number of objects in a search through what a function refers to.
_DEPTH, _OBJECTS = 20, 20_000
# Name of the attribute that holds a mark.
_MARK = "_bayesgen_learnt"

M = TypeVar("M", bound=nn.Module)


@runtime_checkable
class Fitted(Protocol):
    """An object whose functions were fitted to data, such as a posterior."""

    def learnt_from(self) -> list[Source]:
        """Where its functions come from."""
        ...


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
        known = {key for number in self.numbers for key in keys(number)}
        return any(not known.isdisjoint(wanted(number)) for number in found.numbers)


@dataclass
class Contents:
    """What a search through an object found.

    Attributes:
        numbers: numbers, in natural units where a constraint transforms a parameter.
        digests: digests of tensors of four or more entries that differ.
        marks: marks.
        sources: sources that posteriors give.
        deep: whether to search what the code of functions and classes names.
        apart: ids of tensors that are left out.
        exact: hashes of all values of every tensor, words and truth values; None where not wanted.
        tensors: the tensors themselves, and copies of arrays; None where not wanted.
        cut: whether something was left out because it is too deep or too much.
    """

    numbers: list[float] = field(default_factory=list)
    digests: set[bytes] = field(default_factory=set)
    marks: list[Mark] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    deep: bool = True
    apart: frozenset[int] = frozenset()
    exact: list[bytes] | None = None
    tensors: list[Tensor] | None = None
    cut: bool = False


def mark(module: M, sources: Sequence[Source], tensors: Sequence[Tensor] | None = None) -> M:
    """Attach a mark to a module, which its copies and pickles keep, and return the module.

    The sources of an earlier mark that still counts are kept.

    Args:
        module: a kernel or a network that holds learnt numbers.
        sources: where they come from; with none, no mark is attached.
        tensors: those of its tensors that were learnt; None for everything that it consists of.
    """
    if not sources:
        return module
    every = contents([module], deep=False)
    found = every if tensors is None else contents(tensors)
    old = module.__dict__.get(_MARK)
    if isinstance(old, Mark) and old.holds(every):
        found.numbers += old.numbers
        found.digests |= old.digests
        sources = (*old.sources, *sources)
    numbers_, sources = tuple(dict.fromkeys(found.numbers)), tuple(dict.fromkeys(sources))
    setattr(module, _MARK, Mark(numbers_, frozenset(found.digests), sources))
    return module


def beside_state(module: nn.Module) -> bytes:
    """A hash of what a module holds beside its parameters and buffers.

    These are numbers, words, tensors and other modules in attributes, lists, closures and hooks.
    """
    held = (*module.parameters(), *module.buffers())
    found = contents([module], deep=False, apart=held, exact=True)
    assert found.exact is not None
    numbers_ = [repr(number).encode() for number in found.numbers]
    parts = (hashlib.blake2b(part).digest() for part in sorted([*numbers_, *found.exact]))
    return hashlib.blake2b(b"".join(parts), digest_size=16).digest()


def tensors(module: nn.Module) -> list[Tensor] | None:
    """The tensors that a module refers to, and copies of arrays; None where there is too much.

    They are those of its attributes, lists and parts, and of what its code names.
    """
    found = Contents(tensors=[])
    _search(module, found, {}, 0)
    assert found.tensors is not None
    return None if found.cut else found.tensors


def coincide(new: Sequence[Any], old: Sequence[Any]) -> bool:
    """Whether some number or tensor of the new parts is one of the old ones, or a rounded copy."""
    known = contents(old)
    return Mark(tuple(known.numbers), frozenset(known.digests), ()).holds(contents(new))


def contents(
    things: Sequence[Any], *, deep: bool = True, apart: Iterable[Tensor] = (), exact: bool = False
) -> Contents:
    """What some objects consist of.

    Args:
        things: the objects.
        deep: whether to search what the code of functions and classes names.
        apart: tensors that are left out.
        exact: whether to hash all values of every tensor, words and truth values too.
    """
    ids = frozenset(id(tensor) for tensor in apart)
    found = Contents(deep=deep, apart=ids, exact=[] if exact else None)
    seen: dict[int, Any] = {}  # holds the objects, so that no other one takes the number of one
    for thing in things:
        _search(thing, found, seen, 0)
    return found


def digests_of(module: nn.Module) -> frozenset[bytes]:
    """Digests of the tensors of a module that tell it from others."""
    return digests((*module.parameters(), *module.buffers()))


def digests(tensors: Iterable[Tensor]) -> frozenset[bytes]:
    """Digests of the tensors that tell something."""
    found = (digest(t) for t in tensors)
    return frozenset(d for d in found if d is not None)


def state_of(module: nn.Module) -> dict[str, bytes]:
    """Hashes of the parameters and buffers of a module by name, to tell which have changed."""
    named = (*module.named_parameters(), *module.named_buffers())
    return {name: _whole(t) for name, t in named if not is_lazy(t)}


def changed(module: nn.Module, before: Mapping[str, bytes]) -> list[Tensor]:
    """The parameters and buffers of a module that differ from those hashed before."""
    now = state_of(module)
    named = (*module.named_parameters(), *module.named_buffers())
    return [t for name, t in named if name in now and now[name] != before.get(name)]


def _whole(tensor: Tensor) -> bytes:
    """A hash of all values of a tensor."""
    if tensor.layout != torch.strided:
        return str(tensor).encode()
    held = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.blake2b(held.numpy().tobytes(), digest_size=12).digest()


def digest(tensor: Tensor) -> bytes | None:
    """A digest of a tensor's values in single precision; None for one that tells nothing."""
    if is_lazy(tensor) or tensor.layout != torch.strided:
        return None
    if tensor.numel() < 4 or not tensor.is_floating_point():
        return None
    flat = tensor.detach().reshape(-1)
    if bool((flat == flat[0]).all()):
        return None
    values = (flat.to(device="cpu", dtype=torch.float32) + 0.0).contiguous().numpy()
    return hashlib.blake2b(values.tobytes(), digest_size=12).digest()


def keys(number: float, name: str = "") -> set[str]:
    """The keys under which a learnt number is recorded.

    They are its value under its name; and, unless it is round, its value under any name and its
    roundings to four, five and six digits under its name. The value stands for a cell of a grid of
    logarithms and its neighbours, so that every number within a relative distance of 1e-6 is found.
    """
    if not math.isfinite(number) or number == 0:
        return set()
    near = [_cell(number, step) for step in (-1, 0, 1)]
    found = {f"{name}={cell}" for cell in near}
    if not is_round(number):
        found |= {f"={cell}" for cell in near}
        found |= {f"{name}~{number:.{k - 1}e}" for k in range(_DIGITS, 7)}
    return found


def wanted(number: float, name: str = "") -> set[str]:
    """The keys under which a number is looked up.

    A number of four to six significant digits may be a rounded copy of a learnt one of the same
    name. A round number must be the learnt one itself, under the same name.
    """
    if not math.isfinite(number) or number == 0:
        return set()
    found, digits = {f"{name}={_cell(number)}"}, _digits(number)
    if digits >= _DIGITS:
        found |= {f"={_cell(number)}", f"{name}~{number:.{digits - 1}e}"}
    return found


def _cell(number: float, step: int = 0) -> str:
    """The cell of a number in a grid of logarithms whose spacing is just above `_SAME`."""
    cell = math.floor(math.log(abs(number)) / (1.01 * _SAME)) + step
    return f"{cell}" if number > 0 else f"minus {cell}"


def is_round(number: float) -> bool:
    """Whether a number has so few digits that it is taken to be stated."""
    return _digits(number) < _DIGITS


def _digits(number: float) -> int:
    """The number of significant digits, at most six."""
    return len(f"{number:.5e}".split("e")[0].lstrip("-").replace(".", "").rstrip("0"))


def _search(thing: Any, found: Contents, seen: dict[int, Any], depth: int) -> None:
    """Collect what an object consists of: numbers, tensors, marks and posteriors."""
    if isinstance(thing, bool | str | bytes | np.bool_) and found.exact is not None:
        found.exact.append(repr(thing).encode())
    if thing is None or isinstance(thing, bool | str | bytes | np.bool_):
        return
    if isinstance(thing, numbers.Real | Decimal):
        found.numbers.append(float(thing))
        return
    if id(thing) in seen:
        return
    if depth > _DEPTH or len(seen) > _OBJECTS:
        found.cut = True
        return
    if id(thing) in found.apart:
        return
    seen[id(thing)] = thing
    if isinstance(thing, Tensor):
        _tensor(thing, found)
    elif isinstance(thing, np.ndarray):
        if found.exact is not None:
            found.exact.append(repr(thing.dtype).encode() + thing.tobytes())
        if thing.dtype.kind == "O":
            _search(thing.reshape(-1).tolist(), found, seen, depth + 1)
        elif found.tensors is not None and thing.size > _CONSTANT:
            found.tensors.append(torch.empty(thing.shape))
        elif thing.dtype.kind == "f" and thing.size:
            _tensor(torch.from_numpy(thing.astype(np.float64)), found)
    elif isinstance(thing, type):
        for part in code.class_members(thing) if found.deep else []:
            _search(part, found, seen, depth + 1)
    elif isinstance(thing, types.ModuleType):
        for part in code.module_members(thing) if found.deep else []:
            _search(part, found, seen, depth + 1)
    elif isinstance(thing, Fitted):
        found.sources += thing.learnt_from()
    else:
        for part in _parts(thing, found):
            _search(part, found, seen, depth + 1)
        if found.deep:
            _search(type(thing), found, seen, depth + 1)


def _parts(thing: Any, found: Contents) -> list[Any]:
    own = getattr(thing, "__dict__", {}).get(_MARK)
    if isinstance(own, Mark):
        found.marks.append(own)
    if isinstance(thing, nn.Module):
        return _module(thing, found)
    if isinstance(thing, functools.partial):
        return [thing.func, *thing.args, *thing.keywords.values()]
    if isinstance(thing, types.MethodType):
        return [thing.__self__, thing.__func__]
    if isinstance(thing, staticmethod | classmethod):
        return [thing.__func__]
    if isinstance(thing, property):
        return [thing.fget]
    if isinstance(thing, types.FunctionType):
        return _function(thing, found)
    if isinstance(thing, Mapping):
        return list(thing.values())
    if isinstance(thing, list | tuple | set | frozenset | deque):
        return list(thing)
    kept = isinstance(thing, Distribution | Transform)
    if not kept and type(thing).__module__.partition(".")[0] in ("torch", "numpy", "builtins"):
        return []
    return [*getattr(thing, "__dict__", {}).values(), *code.slots(thing)]


def _function(function: types.FunctionType, found: Contents) -> list[Any]:
    """What a function refers to: its closure, defaults, attributes, and what its code names."""
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # not yet set
            continue
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    named = code.referred(function) if found.deep else []
    return [*cells, *defaults, *function.__dict__.values(), *named]


def _module(module: nn.Module, found: Contents) -> list[Any]:
    """Parameters in natural units, buffers, parts and other attributes of a module."""
    constraints = getattr(module, "_constraints", {})
    values = []
    for name, raw in module._parameters.items():
        if raw is None or is_lazy(raw) or id(raw) in found.apart:
            continue
        rule = constraints.get(f"{name}_constraint")
        values.append(raw.detach() if rule is None else rule.transform(raw.detach()))
    hidden = {"_parameters", "_buffers", "_modules", "training", _MARK}
    held = [(k, v) for k, v in module.__dict__.items() if k not in hidden]
    rest = [v for _, v in held]
    library = type(module).__module__.partition(".")[0] in ("torch", "gpytorch")
    if library and found.tensors is None:
        # A kernel from a function, the slope of an activation, and the like.
        kinds = Tensor | float | np.ndarray
        rest = [v for _, v in held if callable(v) or isinstance(v, kinds)]
        rest += [v for k, v in held if k.endswith("_hooks")]
    buffers = [b for b in module._buffers.values() if b is not None and not is_lazy(b)]
    own = [m for m in module._modules.values() if m is not None and not _is_constraint(m)]
    return [*values, *buffers, *own, *rest]


def _is_constraint(module: nn.Module) -> bool:
    return hasattr(module, "inverse_transform") and hasattr(module, "lower_bound")


def _tensor(tensor: Tensor, found: Contents) -> None:
    own = getattr(tensor, "__dict__", {}).get(_MARK)
    if isinstance(own, Mark):
        found.marks.append(own)
    if found.tensors is not None:
        found.tensors.append(tensor)
    if found.exact is not None:
        found.exact.append(f"{tensor.dtype} {tuple(tensor.shape)}".encode() + _whole(tensor))
    if tensor.layout != torch.strided or not tensor.is_floating_point() or not tensor.numel():
        return
    flat = tensor.detach().reshape(-1)[:ENTRIES]
    found.numbers += flat.to(device="cpu", dtype=torch.float64).tolist()
    whole = digest(tensor)
    if whole is not None:
        found.digests.add(whole)

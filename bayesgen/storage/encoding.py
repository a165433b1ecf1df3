"""An object as a list of plain nodes and arrays, in which nothing is code.

A posterior consists of a model, data and fitted numbers, which it holds in attributes. Every object
among them becomes one node with the name of its class and its state, as `pickle` sees it, and every
block of memory becomes one array. Objects that are referred to several times remain one object, and
tensors keep their strides, so that predictions are the same to the last bit.

Functions, and objects of the user's own classes, are code. Their place is marked with the name of
the argument that has to give them again; of a module, the parameters are stored.
"""

from __future__ import annotations

import base64
import math
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bayesgen.storage import allowed

# Attribute that holds a part of a model → the argument of `load` that gives the part again.
_ROLES = {
    "base": "kernel",
    "kernel": "kernel",
    "mean": "mean",
    "_mean": "mean",
    "features": "basis",
    "basis": "basis",
    "prior": "prior_variance",
    "net": "net",
    "likelihood": "likelihood",
}
# The arguments of `load` that give a part of a model again.
ROLES = tuple(dict.fromkeys(_ROLES.values()))
# Start of a block of memory that is kept, in bytes: vector instructions are aligned to it.
_ALIGNED = 64
# Attribute of a module or tensor that says where its values were learnt; see `provenance`.
MARK = "_bayesgen_learnt"


class Given(NamedTuple):
    """A part of a model that must be given again.

    Attributes:
        role: the argument that gives it.
        name: name of the function or class.
    """

    role: str
    name: str


class Encoded(NamedTuple):
    """An encoded object.

    Attributes:
        nodes: the nodes, as values of JSON.
        root: the reference to the object itself.
        arrays: one array for each block of memory.
        given: the parts that must be given again.
    """

    nodes: list[Any]
    root: Any
    arrays: list[np.ndarray]
    given: list[Given]


class _Foreign(Exception):
    """Code of the user is met inside a module, which must be given as a whole."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class _Block:
    """A block of memory and the bytes of it that tensors use."""

    def __init__(self, number: int, memory: torch.UntypedStorage, dtype: torch.dtype) -> None:
        self.number, self.memory, self.dtype = number, memory, dtype
        self.low, self.high = len(memory), 0

    def use(self, tensor: Tensor) -> None:
        """Extend the part that is kept to the elements of a tensor."""
        if not tensor.numel():
            return
        size, first = tensor.element_size(), int(tensor.storage_offset())
        pairs = zip(tensor.shape, tensor.stride(), strict=True)
        last = first + sum((int(n) - 1) * int(stride) for n, stride in pairs)
        self.low = min(self.low, first * size // _ALIGNED * _ALIGNED)
        self.high = max(self.high, (last + 1) * size)

    def array(self) -> np.ndarray:
        """The part that is kept, as numbers of the tensors' dtype where numpy has it."""
        whole = torch.empty(0, dtype=torch.uint8, device=self.memory.device).set_(self.memory)
        kept: np.ndarray = whole[self.low : max(self.low, self.high)].cpu().numpy()
        try:
            dtype = torch.empty(0, dtype=self.dtype).numpy().dtype
        except TypeError:  # numpy has no bfloat16
            return kept
        return kept.view(dtype) if kept.nbytes % dtype.itemsize == 0 else kept


class Encoder:
    """Encodes one object; see `encode`."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.given: dict[Given, Any] = {}
        # Every object that was met, so that none is encoded twice and no number of one is reused.
        self._known: dict[int, tuple[Any, int]] = {}
        self._blocks: dict[int, _Block] = {}
        self._role: str | None = None
        self._inside = False
        self._tensors: list[tuple[dict[str, Any], _Block]] = []

    def finish(self, root: Any) -> Encoded:
        """The result, with the unused ends of the blocks of memory left out."""
        for node, block in self._tensors:
            node["offset"] = max(0, node["offset"] - block.low // node.pop("size"))
        blocks = sorted(self._blocks.values(), key=lambda block: block.number)
        return Encoded(self.nodes, root, [b.array() for b in blocks], list(self.given))

    def value(self, thing: Any) -> Any:
        """A value of JSON for an object: itself, or a reference to its node."""
        if thing is None or type(thing) in (bool, int, str):
            return thing
        if type(thing) is float and math.isfinite(thing):
            return thing
        known = self._known.get(id(thing))
        if known is None:
            if isinstance(thing, nn.Module) and not self._inside:
                return self._outermost(thing)
            return {"@": self._encode(thing)}
        return {"@": known[1]}

    def _new(self, thing: Any) -> int:
        """The number of a new node for an object."""
        self.nodes.append(None)
        self._known[id(thing)] = thing, len(self.nodes) - 1
        return len(self.nodes) - 1

    def _encode(self, thing: Any) -> int:
        number = self._new(thing)
        node = self._node(thing)
        if isinstance(thing, Tensor):
            self._tensors.append((node, self._block(thing)))
        self.nodes[number] = node
        return number

    def _node(self, thing: Any) -> dict[str, Any]:
        for kind, make in _PLAIN.items():
            if type(thing) is kind:
                return make(self, thing)
        if isinstance(thing, Tensor):
            return self._tensor(thing)
        if isinstance(thing, np.generic):
            return {"is": "number", "of": self.value(np.asarray(thing))}
        if isinstance(thing, types.FunctionType | types.BuiltinFunctionType):
            name = allowed.name_of_function(thing)
            return self._again(thing) if name is None else {"is": "function", "name": list(name)}
        if isinstance(thing, types.MethodType):
            if not allowed.may_name_method(thing.__self__, thing.__name__):
                return self._again(thing)
            return {"is": "method", "of": self.value(thing.__self__), "name": thing.__name__}
        if type(thing).__module__.partition(".")[0] == "pandas":
            return self._table(thing)
        return self._object(thing)

    def values(self, things: Any) -> list[Any]:
        """Values of several objects."""
        return [self.value(thing) for thing in things]

    def pairs(self, things: Mapping[Any, Any]) -> list[Any]:
        """Keys and values of a mapping; a key names the role of its value."""
        found = []
        for key, value in things.items():
            with self._as(_ROLES.get(key) if isinstance(key, str) else None):
                found.append([self.value(key), self.value(value)])
        return found

    @contextmanager
    def _as(self, role: str | None) -> Iterator[None]:
        before, self._role = self._role, self._role if role is None else role
        try:
            yield
        finally:
            self._role = before

    def _block(self, tensor: Tensor) -> _Block:
        memory = tensor.untyped_storage()
        block = self._blocks.get(memory._cdata)
        if block is None:
            block = _Block(len(self._blocks), memory, tensor.dtype)
            self._blocks[memory._cdata] = block
        block.use(tensor)
        return block

    def _tensor(self, tensor: Tensor) -> dict[str, Any]:
        if tensor.layout != torch.strided or tensor.is_conj() or tensor.is_neg():
            raise TypeError(f"a tensor of layout {tensor.layout} cannot be stored")
        node = {
            "is": "tensor",
            "block": self._block(tensor).number,
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "device": str(tensor.device),
            "offset": tensor.storage_offset(),
            "size": tensor.element_size(),
            "shape": list(tensor.shape),
            "stride": list(tensor.stride()),
            "learns": tensor.requires_grad,
            "parameter": isinstance(tensor, nn.Parameter),
        }
        held = {k: v for k, v in getattr(tensor, "__dict__", {}).items() if k == MARK}
        return {**node, "held": self.pairs(held)}

    def _array(self, array: np.ndarray) -> dict[str, Any]:
        shape = list(array.shape)
        if array.dtype.kind == "O":
            return {"is": "objects", "shape": shape, "of": self.values(array.reshape(-1).tolist())}
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            text = base64.b64encode(array.tobytes()).decode()
            return {"is": "bytes of", "dtype": array.dtype.str, "shape": shape, "of": text}
        return {"is": "array", "dtype": array.dtype.str, "of": self.value(_as_tensor(array))}

    def _table(self, table: Any) -> dict[str, Any]:
        import pandas as pd

        if not isinstance(table, pd.DataFrame):
            raise TypeError(f"a {type(table).__name__} of pandas cannot be stored")
        columns = {str(name): table[name].to_numpy() for name in table.columns}
        return {"is": "table", "columns": self.pairs(columns), "rows": len(table)}

    def _object(self, thing: Any) -> dict[str, Any]:
        cls = type(thing)
        name = allowed.name_of_class(cls)
        if name is None:
            return self._again(thing)
        if isinstance(thing, tuple):  # a named tuple
            return {"is": "tuple", "class": list(name), "of": self.values(thing)}
        try:
            made = thing.__reduce_ex__(4)
        except TypeError as err:
            raise TypeError(f"a {cls.__name__} cannot be stored: {err}") from None
        # Make a new instance and set its state: nothing else is an object made of data.
        arguments, rest = made[1], made[3:]
        if len(arguments) != 1 or arguments[0] is not cls or any(v is not None for v in rest):
            raise TypeError(f"a {cls.__name__} cannot be stored, because it is made by a function")
        state = made[2]
        if not isinstance(state, dict | None):
            raise TypeError(f"a {cls.__name__} cannot be stored, because it has slots")
        return {"is": "object", "class": list(name), "of": self.pairs(state or {})}

    # ------------------------------------------------------------------ code of the user

    def _outermost(self, module: nn.Module) -> Any:
        """The value of a module that is not part of another one, or a place for it."""
        kept = len(self.nodes), dict(self._known), dict(self._blocks), list(self._tensors)
        spans = {key: (block.low, block.high) for key, block in self._blocks.items()}
        self._inside = True
        try:
            return {"@": self._encode(module)}
        except _Foreign as err:
            foreign = err.name
        except TypeError:
            foreign = type(module).__name__
        finally:
            self._inside = False
        del self.nodes[kept[0] :]
        _, self._known, self._blocks, self._tensors = kept
        for key, (low, high) in spans.items():
            self._blocks[key].low, self._blocks[key].high = low, high
        number = self._new(module)
        self.nodes[number] = self._module_again(module, foreign, number)
        return {"@": number}

    def _module_again(self, module: nn.Module, foreign: str, number: int) -> dict[str, Any]:
        """A place for a module, with its tensors. References to parts of it lead into it."""
        given = self._place(module, foreign)
        parts = {"": module, **dict(module.named_modules())}
        state: dict[str, Tensor] = {}
        modes = {}
        for path, part in parts.items():
            modes[path] = part.training
            if part is not module:
                self.nodes[self._new(part)] = {"is": "part", "of": number, "path": path}
            own = {**part._parameters, **part._buffers}
            for name, tensor in own.items():
                if tensor is not None:
                    state[f"{path}.{name}" if path else name] = tensor
        marks = {k: v for k, v in module.__dict__.items() if k == MARK}
        return {
            "is": "given module",
            "role": given.role,
            "name": given.name,
            "class": type(module).__qualname__,
            "state": self.pairs(state),
            "modes": self.pairs(modes),
            "held": self.pairs(marks),
        }

    def _again(self, thing: Any) -> dict[str, Any]:
        """A place for an object that must be given again."""
        name = getattr(thing, "__qualname__", type(thing).__qualname__).rpartition(".")[2]
        if self._inside:
            raise _Foreign(name)
        given = self._place(thing, name)
        return {"is": "given", "role": given.role, "name": given.name}

    def _place(self, thing: Any, name: str) -> Given:
        if self._role is None:
            raise TypeError(f"{name} of {type(thing).__module__} cannot be stored in a file")
        number, given = 1, Given(self._role, name)
        function = not isinstance(thing, nn.Module)
        while function and self.given.setdefault(given, thing) is not thing:
            number += 1
            given = Given(self._role, f"{name} ({number})")
        self.given.setdefault(given, thing)
        return given


def _as_tensor(array: np.ndarray) -> Tensor:
    """An array of numbers as a tensor of its own layout, of the bytes where torch has no dtype."""
    array = np.ascontiguousarray(array) if not array.flags.writeable else array
    if any(stride < 0 for stride in array.strides) or not array.dtype.isnative:
        array = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("=")))
    return torch.from_numpy(array if array.flags.writeable else array.copy())


_PLAIN: dict[type, Callable[[Encoder, Any], dict[str, Any]]] = {
    list: lambda e, v: {"is": "list", "of": e.values(v)},
    tuple: lambda e, v: {"is": "tuple", "class": None, "of": e.values(v)},
    set: lambda e, v: {"is": "set", "of": e.values(sorted(v, key=repr))},
    frozenset: lambda e, v: {"is": "frozenset", "of": e.values(sorted(v, key=repr))},
    dict: lambda e, v: {"is": "dict", "of": e.pairs(v)},
    OrderedDict: lambda e, v: {"is": "ordered dict", "of": e.pairs(v)},
    bytes: lambda _, v: {"is": "bytes", "of": base64.b64encode(v).decode()},
    float: lambda _, v: {"is": "float", "of": repr(v)},  # JSON has no nan and no inf
    complex: lambda _, v: {"is": "complex", "of": [v.real, v.imag]},
    slice: lambda e, v: {"is": "slice", "of": e.values((v.start, v.stop, v.step))},
    range: lambda _, v: {"is": "range", "of": [v.start, v.stop, v.step]},
    torch.Size: lambda _, v: {"is": "size", "of": list(v)},
    torch.dtype: lambda _, v: {"is": "dtype", "of": str(v).removeprefix("torch.")},
    torch.device: lambda _, v: {"is": "device", "of": str(v)},
    np.ndarray: lambda e, v: e._array(v),
    partial: lambda e, v: {
        "is": "partial", "of": e.value(v.func), "args": e.values(v.args),
        "named": e.pairs(v.keywords),
    },
}  # fmt: skip


def encode(thing: Any) -> Encoded:
    """Encode an object.

    Raises:
        TypeError: it holds something that is neither data nor a part that can be given again.

    Example:
        >>> found = encode([1.5, ("a", None)])
        >>> found.nodes
        [{'is': 'list', 'of': [1.5, {'@': 1}]}, {'is': 'tuple', 'class': None, 'of': ['a', None]}]
    """
    encoder = Encoder()
    root = encoder.value(thing)
    return encoder.finish(root)

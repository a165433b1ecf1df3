"""The object of a list of nodes and arrays that `bayesgen.storage.encoding` has made.

Only classes and functions of the list in `bayesgen.storage.allowed` are looked up. Objects are made
without their constructors, and their state is set, so that no code of the file runs.
"""

from __future__ import annotations

import base64
import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import gpytorch
import numpy as np
import torch
from torch import Tensor, nn

from bayesgen.kernels.functions import FunctionKernel
from bayesgen.networks.copies import detached_copies, plain
from bayesgen.storage import allowed
from bayesgen.storage.encoding import MARK, ROLES

Node = Mapping[str, Any]


class PartError(ValueError):
    """A part that must be given again is missing or is another one, or a device is missing.

    The message continues a sentence about the file.
    """


class Decoder:
    """Decodes nodes; see `decode`."""

    def __init__(
        self, nodes: Sequence[Any], arrays: Sequence[np.ndarray], given: Mapping[str, Any]
    ) -> None:
        self._nodes, self._arrays, self._given = nodes, arrays, given
        self._made: dict[int, Any] = {}
        self._memory: dict[tuple[int, str], Tensor] = {}

    def value(self, of: Any) -> Any:
        """The object of a value of JSON: itself, or that of the node that it refers to."""
        if not isinstance(of, dict):
            if isinstance(of, list):
                raise ValueError("a reference is a list")
            return of
        number = of["@"]
        if number not in self._made:
            self._make(number)
        return self._made[number]

    def values(self, of: Sequence[Any]) -> list[Any]:
        """Objects of several values."""
        return [self.value(v) for v in of]

    def pairs(self, of: Sequence[Sequence[Any]]) -> dict[Any, Any]:
        """A dict of pairs of values."""
        return {self.value(key): self.value(value) for key, value in of}

    def _make(self, number: int) -> None:
        node: Node = self._nodes[number]
        kind = node["is"]
        # What may refer to itself is known before its contents are made.
        if kind == "object":
            cls = allowed.class_of_name(*node["class"])
            thing: Any = object.__new__(cls)
            self._made[number] = thing
            state = self.pairs(node["of"])
            if hasattr(cls, "__setstate__"):
                thing.__setstate__(state)
            else:
                thing.__dict__.update(state)
        elif kind in ("dict", "ordered dict"):
            held: dict[Any, Any] = OrderedDict() if kind == "ordered dict" else {}
            self._made[number] = held
            held.update(self.pairs(node["of"]))
        elif kind == "list":
            several: list[Any] = []
            self._made[number] = several
            several += self.values(node["of"])
        elif kind == "given module":
            self._module_again(number, node)
        else:
            self._made[number] = _MADE[kind](self, node)

    def _tuple(self, node: Node) -> Any:
        values = self.values(node["of"])
        if node["class"] is None:
            return tuple(values)
        cls = allowed.class_of_name(*node["class"])
        if not issubclass(cls, tuple):
            raise ValueError(f"{cls.__name__} is not a tuple")
        return tuple.__new__(cls, values)

    def _tensor(self, node: Node) -> Tensor:
        dtype, device = _dtype(node["dtype"]), node["device"]
        memory = self._block(node["block"], device)
        shape, stride, offset = node["shape"], node["stride"], node["offset"]
        last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
        bytes_ = memory.untyped_storage().nbytes()
        small = min([offset, *shape, *stride]) < 0
        if small or (0 not in shape and (last + 1) * dtype.itemsize > bytes_):
            raise ValueError("a tensor lies outside of its memory")
        tensor = torch.empty(0, dtype=dtype, device=device)
        if 0 in shape:
            tensor = torch.empty_strided(shape, stride, dtype=dtype, device=device)
        else:
            tensor.set_(memory.untyped_storage(), offset, shape, stride)
        if node["parameter"]:
            tensor = nn.Parameter(tensor, requires_grad=node["learns"])
        elif node["learns"]:
            tensor.requires_grad_(True)
        for name, value in self.pairs(node["held"]).items():
            if name == MARK:
                setattr(tensor, name, value)
        return tensor

    def _block(self, number: int, device: str) -> Tensor:
        """A block of memory on a device, as bytes."""
        key = number, device
        if key not in self._memory:
            kind = torch.device(device).type
            if kind != "cpu" and not getattr(torch, kind).is_available():
                raise PartError(f"its tensors are on the device {device}, which is not available")
            found = np.ascontiguousarray(self._arrays[number]).reshape(-1).view(np.uint8)
            memory = torch.empty(len(found), dtype=torch.uint8)
            memory.numpy()[:] = found
            self._memory[key] = memory.to(device)
        return self._memory[key]

    def _array(self, node: Node) -> np.ndarray:
        found: np.ndarray = self.value(node["of"]).numpy()
        return found.astype(np.dtype(node["dtype"]), copy=False)

    def _objects(self, node: Node) -> np.ndarray:
        found = np.empty(len(node["of"]), dtype=object)
        found[:] = self.values(node["of"])
        return found.reshape(node["shape"])

    def _bytes_of(self, node: Node) -> np.ndarray:
        dtype = np.dtype(node["dtype"])
        if dtype.hasobject:
            raise ValueError("an array of objects is stored as bytes")
        found = np.frombuffer(base64.b64decode(node["of"]), dtype=dtype)
        return found.reshape(node["shape"]).copy()

    def _table(self, node: Node) -> Any:
        import pandas as pd

        return pd.DataFrame(self.pairs(node["columns"]), index=range(node["rows"]))

    def _method(self, node: Node) -> Any:
        owner, name = self.value(node["of"]), node["name"]
        if not allowed.may_name_method(owner, name):
            raise ValueError(f"the method {name} is not one that a file may name")
        return getattr(owner, name)

    def _part(self, node: Node) -> nn.Module:
        whole = self.value({"@": node["of"]})
        found: nn.Module = whole.get_submodule(node["path"])
        return found

    # ------------------------------------------------------------------ code of the user

    def _again(self, node: Node) -> Any:
        """A part that the user has given again."""
        role, name = node["role"], node["name"]
        if role not in ROLES:
            raise ValueError(f"{role} is no argument")
        found = self._given.get(role)
        if isinstance(found, Mapping):
            found = found.get(name)
        if found is None:
            raise PartError(
                f"it was fitted with the {role} {name!r}, which is code and is not in the "
                f"file: pass it again as bg.load(path, {role}=...)"
            )
        return found

    def _module_again(self, number: int, node: Node) -> None:
        """A copy of a module that the user has given again, with the tensors of the file."""
        given, role, name = self._again(node), node["role"], node["name"]
        names = {key for key, _ in node["state"]}
        fitting = [m for m in _forms(given) if type(m).__qualname__ == node["class"]]
        fitting = [m for m in fitting if names - _bare(names) <= set(_tensors(m)) <= names]
        if not fitting:
            raise PartError(
                f"the {role} {name!r} that was given has other parts or parameters than the one "
                "that it was fitted with"
            )
        module = copy.deepcopy(fitting[0], detached_copies(fitting[0]))
        self._made[number] = module
        for path, tensor in self.pairs(node["state"]).items():
            owner = module.get_submodule(path.rpartition(".")[0])
            _set(owner, path.rpartition(".")[2], tensor, f"{role} {name!r}")
        for path, mode in node["modes"]:
            module.get_submodule(path).training = bool(mode)
        for key, value in self.pairs(node["held"]).items():
            if key == MARK:
                setattr(module, key, value)


def _forms(given: Any) -> list[nn.Module]:
    """The modules that a fit makes of an argument: itself, without its outputscale, wrapped."""
    if not isinstance(given, nn.Module):
        return [FunctionKernel(given)] if callable(given) else []
    found = [given]
    if isinstance(given, gpytorch.kernels.ScaleKernel):
        found.append(given.base_kernel)
    elif not isinstance(given, gpytorch.Module):
        found.append(plain(given))
    return found


def _tensors(module: nn.Module) -> list[str]:
    """Names of the parameters and buffers of a module and of its parts, shared ones repeatedly."""
    return [
        f"{path}.{name}" if path else name
        for path, part in {"": module, **dict(module.named_modules())}.items()
        for name, tensor in {**part._parameters, **part._buffers}.items()
        if tensor is not None
    ]


def _bare(names: set[str]) -> set[str]:
    """Names of columns of inputs, which a kernel without its outputscale takes over from it."""
    return {name for name in names if name.rpartition(".")[2] == "active_dims"}


def _set(owner: nn.Module, name: str, tensor: Tensor, what: str) -> None:
    old = owner._parameters.get(name)
    if old is None:
        owner._buffers[name] = tensor
    elif old.shape != tensor.shape:
        raise PartError(
            f"the {what} that was given has a parameter {name!r} of shape {tuple(old.shape)}, and "
            f"it was fitted with one of shape {tuple(tensor.shape)}"
        )
    else:
        if not isinstance(tensor, nn.Parameter):
            raise ValueError(f"{name} is no parameter")
        owner._parameters[name] = tensor  # the one that others refer to


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"{name} is no dtype")
    return found


_MADE: dict[str, Callable[[Decoder, Node], Any]] = {
    "tuple": Decoder._tuple,
    "set": lambda d, n: set(d.values(n["of"])),
    "frozenset": lambda d, n: frozenset(d.values(n["of"])),
    "bytes": lambda _, n: base64.b64decode(n["of"]),
    "float": lambda _, n: float(n["of"]),
    "complex": lambda _, n: complex(*n["of"]),
    "slice": lambda d, n: slice(*d.values(n["of"])),
    "range": lambda _, n: range(*n["of"]),
    "size": lambda _, n: torch.Size(n["of"]),
    "dtype": lambda _, n: _dtype(n["of"]),
    "device": lambda _, n: torch.device(n["of"]),
    "tensor": Decoder._tensor,
    "array": Decoder._array,
    "objects": Decoder._objects,
    "bytes of": Decoder._bytes_of,
    "number": lambda d, n: d.value(n["of"])[()],
    "table": Decoder._table,
    "function": lambda _, n: allowed.function_of_name(*n["name"]),
    "method": Decoder._method,
    "partial": lambda d, n: partial(d.value(n["of"]), *d.values(n["args"]), **d.pairs(n["named"])),
    "part": Decoder._part,
    "given": Decoder._again,
}


def decode(
    nodes: Sequence[Any], root: Any, arrays: Sequence[np.ndarray], given: Mapping[str, Any]
) -> Any:
    """The object that was encoded.

    Args:
        nodes, root, arrays: as in `bayesgen.storage.encoding.Encoded`.
        given: argument of `load` → the part of the model, or a mapping from names to parts.

    Raises:
        PartError: a part is missing among those given, or is another one; a device is missing.
        Exception: the nodes are damaged.

    Example:
        >>> from bayesgen.storage.encoding import encode
        >>> found = encode([1.5, ("a", None)])
        >>> decode(found.nodes, found.root, found.arrays, {})
        [1.5, ('a', None)]
    """
    return Decoder(nodes, arrays, given).value(root)

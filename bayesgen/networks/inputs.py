"""Inputs of networks: one tensor, or a tuple or mapping of tensors with one first axis."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, Dataset

from bayesgen._internal import checks


class Inputs:
    """Inputs of a network that takes several tensors; it is indexed by observation as a tensor is.

    Args:
        parts: the tensors by name, or by position, each (n, …).
        keyword: whether the names are names (of a mapping), not positions (of a tuple).
        spread: whether each tensor is an argument of `forward` of its own; else `forward` takes the
            tuple or the mapping as one argument.
    """

    def __init__(self, parts: dict[Any, Tensor], *, keyword: bool, spread: bool) -> None:
        self.parts, self.keyword, self.spread = parts, keyword, spread

    def _with(self, parts: dict[Any, Tensor]) -> Inputs:
        return Inputs(parts, keyword=self.keyword, spread=self.spread)

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return next(iter(self.parts.values())).device

    @property
    def shape(self) -> tuple[Any, ...]:
        """Number of observations, and the shapes of one observation."""
        return (len(self), *(tuple(part.shape[1:]) for part in self.parts.values()))

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    def __getitem__(self, index: Any) -> Inputs:
        return self._with({name: part[index] for name, part in self.parts.items()})

    def split(self, batch: int) -> list[Inputs]:
        """The inputs in pieces of at most `batch` observations."""
        return [self[start : start + batch] for start in range(0, len(self), batch)]

    def to(self, *where: Any) -> Inputs:
        """The inputs with floating-point tensors in a dtype or like another tensor."""
        return self._with({name: converted(part, *where) for name, part in self.parts.items()})

    def clone(self) -> Inputs:
        """The inputs in memory of their own."""
        return self._with({name: part.clone() for name, part in self.parts.items()})

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments of `forward`."""
        values: Any = dict(self.parts) if self.keyword else tuple(self.parts.values())
        if not self.spread:
            return (values,), {}
        return ((), values) if self.keyword else (values, {})


def converted(x: Any, *where: Any) -> Any:
    """A tensor in a dtype or like another tensor; integers keep their dtype."""
    if isinstance(x, Inputs) or x.is_floating_point():
        return x.to(*where)
    other = where[0]
    return x.to(other.device) if isinstance(other, Tensor) else x


def read(name: str, value: Any, net: nn.Module) -> Any:
    """Check the inputs of a network and return a tensor or `Inputs`.

    Floating-point values must be finite. Integers, such as tokens, are passed to the network as
    they are. The tensors of a tuple are positional arguments of `forward` and those of a mapping
    are keyword arguments where `forward` has as many parameters; else `forward` receives the tuple
    or mapping itself.

    Args:
        name: name of the argument, for messages.
        value: array (n, …), or a tuple or mapping of arrays, n ≥ 1.
        net: the network.

    Raises:
        TypeError: a value is not an array of numbers.
        ValueError: there is no observation; values are not finite; lengths or devices differ.

    Example:
        >>> x = read("x", (torch.zeros(3, 2), torch.ones(3, 1)), nn.Bilinear(2, 1, 1))
        >>> len(x), x.spread
        (3, True)
    """
    if isinstance(value, Inputs):
        return value
    keyword = isinstance(value, Mapping)
    if isinstance(value, DataLoader | Dataset):
        raise TypeError(
            f"{name} must hold arrays of inputs (n, …), got a {type(value).__name__}; join its "
            "batches first, e.g. x, y = (torch.cat(part) for part in zip(*loader))"
        )
    several = isinstance(value, tuple) and any(hasattr(part, "shape") for part in value)
    if not keyword and not several:
        x = _array(name, value)
        if x.ndim < 2 and x.is_floating_point():
            raise ValueError(f"{name} must have shape (n, …) with n ≥ 1, got {tuple(x.shape)}")
        return x
    items = value.items() if keyword else enumerate(value)
    parts = {key: _array(f"{name}[{key!r}]", part) for key, part in items}
    if not parts:
        raise ValueError(
            f"{name} must hold at least one array, got an empty {type(value).__name__}"
        )
    lengths = {key: len(part) for key, part in parts.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{name} must hold arrays with one number of rows, got {lengths}")
    if len({part.device for part in parts.values()}) > 1:
        raise ValueError(f"{name} must hold arrays on one device")
    return Inputs(parts, keyword=keyword, spread=_spreads(net, parts, keyword))


def call(net: Any, rows: Any) -> Any:
    """Value of net(rows); the network receives a copy, which it may overwrite."""
    if isinstance(rows, Inputs):
        args, kwargs = rows.clone().arguments()
        return net(*args, **kwargs)
    return net(rows.clone())


def call_at(
    net: nn.Module, named: Mapping[str, Tensor], others: Mapping[str, Sequence[str]], rows: Any
) -> Any:
    """Value of net(rows) at other parameters and buffers; the network is left as it was.

    `torch.func.functional_call` does not restore a module that is listed under two names, if it is
    given both. It is therefore given one name for each module that holds a tensor.

    Args:
        net: the network.
        named: tensors by their first names.
        others: their further names; see `bayesgen.networks.copies.other_names`.
        rows: inputs of a batch.
    """
    every = {**named, **{o: named[k] for k, names in others.items() if k in named for o in names}}

    def run(*args: Any, **kwargs: Any) -> Any:
        return functional_call(net, every, args, kwargs, tie_weights=False)

    return call(run, rows)


def joined(pieces: Sequence[Any]) -> Any:
    """Join pieces of inputs along the observations."""
    first = pieces[0]
    if isinstance(first, Inputs):
        every = [piece.parts for piece in pieces]
        return first._with({key: torch.cat([each[key] for each in every]) for key in first.parts})
    return torch.cat(list(pieces))


def mapped(name: str, function: Callable[[Any], Any], rows: Any) -> Any:
    """Inputs after a user's function, which takes and returns them in the user's own form.

    Args:
        name: name of the function, for messages.
        function: function of a tensor, or of a tuple or dict of tensors.
        rows: inputs, a tensor or `Inputs`.

    Raises:
        ValueError: the function returns something else than inputs for the same observations.

    Example:
        >>> mapped("augment", lambda x: -x, torch.ones(2, 1)).tolist()
        [[-1.0], [-1.0]]
    """
    if isinstance(rows, Inputs):
        given = function(dict(rows.parts) if rows.keyword else tuple(rows.parts.values()))
        if isinstance(given, Mapping):
            parts = dict(given)
        else:
            parts = dict(enumerate(given)) if isinstance(given, list | tuple) else {}
        found, right = rows._with(parts), parts.keys() == rows.parts.keys()
    else:
        given = found = function(rows)
        parts, right = {0: given}, True
    if not right or not all(isinstance(p, Tensor) and len(p) == len(rows) for p in parts.values()):
        shapes = [tuple(p.shape) for p in parts.values() if isinstance(p, Tensor)]
        raise ValueError(
            f"{name} must return inputs in the form of x for each of the {len(rows)} observations "
            f"of a batch, got a {type(given).__name__} with shapes {shapes}"
        )
    return found


def tensors(x: Any) -> Iterator[Tensor]:
    """The tensors of some inputs."""
    yield from x.parts.values() if isinstance(x, Inputs) else (x,)


def _array(name: str, value: Any) -> Tensor:
    tensor = checks.as_tensor(name, value).detach()
    if tensor.is_complex():
        raise TypeError(f"{name} must hold real numbers or integers, got dtype {tensor.dtype}")
    if tensor.is_floating_point():
        tensor = checks.real(name, tensor)
    if tensor.ndim < 1 or tensor.numel() == 0:
        raise ValueError(f"{name} must have shape (n, …) with n ≥ 1, got {tuple(tensor.shape)}")
    return tensor


def _spreads(net: nn.Module, parts: dict[Any, Tensor], keyword: bool) -> bool:
    """Whether `forward` takes each of the tensors as an argument."""
    try:
        signature = inspect.signature(net.forward)
    except (TypeError, ValueError):
        return True
    try:
        if keyword:
            signature.bind(**{str(key): part for key, part in parts.items()})
        else:
            signature.bind(*parts.values())
    except TypeError:
        return False
    return True

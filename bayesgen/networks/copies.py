"""Copies of a user's network, and its trainable parameters, each listed once."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from bayesgen._internal import checks

# Classes that run another module, and the attribute that holds it. They are known by name, because
# the import of torch.compile's class takes a second.
_WRAPPERS = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "OptimizedModule": "_orig_mod",
}


@dataclass(frozen=True)
class OwnParameters:
    """A module that owns trainable parameters.

    Attributes:
        name: name of the module in the network; "" for the network itself.
        module: the module.
        parameters: its own trainable parameters by their names in the module.
    """

    name: str
    module: nn.Module
    parameters: dict[str, nn.Parameter]

    def full(self, own: str) -> str:
        """Name in the network of a parameter of the module."""
        return f"{self.name}.{own}" if self.name else own


def plain(net: nn.Module, name: str = "net") -> nn.Module:
    """The network without wrappers for parallel or compiled execution, after a check.

    Args:
        net: the network.
        name: name of the argument, for messages.

    Raises:
        TypeError: the argument is not a module, or holds a TorchScript module or complex
            parameters.
        ValueError: it has no trainable parameters, or lazy ones without a shape.

    Example:
        >>> type(plain(nn.DataParallel(nn.Linear(2, 1)))).__name__
        'Linear'
    """
    return checks.network(name, unwrapped(net, name))


def unwrapped(net: nn.Module, name: str = "net") -> nn.Module:
    """As `plain`, without a check for trainable parameters."""
    while type(net).__module__.startswith("torch.") and type(net).__name__ in _WRAPPERS:
        net = getattr(net, _WRAPPERS[type(net).__name__])
    if isinstance(net, nn.Module):
        if any(isinstance(module, torch.jit.ScriptModule) for module in net.modules()):
            raise TypeError(
                f"{name} must be a torch.nn.Module written in Python, got a TorchScript module; "
                "pass the module that it was made from"
            )
        lazy = [own for own, p in net.named_parameters() if isinstance(p, UninitializedParameter)]
        if lazy:
            raise ValueError(
                f"{name} must have parameters of known shapes, but {lazy[0]!r} is lazy; call the "
                "network on some inputs first"
            )
        complex_ones = [own for own, p in net.named_parameters() if p.is_complex()]
        if complex_ones:
            raise TypeError(
                f"{name} must have real parameters, but {complex_ones[0]!r} is complex; store its "
                "real and imaginary parts"
            )
    return net


def frozen_copy(net: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose parameters do not require gradients.

    Backward hooks are left out, because they may change gradients. Other hooks, such as those of
    `torch.nn.utils.spectral_norm`, are part of the function and are kept. Tensors that a module
    stores from an earlier forward pass are detached from that pass.

    Raises:
        ValueError: the network holds something that cannot be copied.
    """
    net = plain(net)
    try:
        copied = copy.deepcopy(net, detached_copies(net))
    except Exception as err:
        raise ValueError(
            f"net cannot be copied ({type(err).__name__}: {err}); it must hold nothing but "
            "modules, tensors and values that copy.deepcopy can copy"
        ) from err
    for module in copied.modules():
        module._backward_hooks.clear()
        module._backward_pre_hooks.clear()
    return copied.eval().requires_grad_(False)


def detached_copies(net: nn.Module) -> dict[int, Any]:
    """A memo for `copy.deepcopy` that replaces tensors which torch cannot copy by detached ones.

    Some modules store a tensor of their last forward pass, with its graph.
    """
    return {
        id(value): _detached(value)
        for module in net.modules()
        for value in _tensors(vars(module))
        if not value.is_leaf
    }


def own_parameters(net: nn.Module, only: Iterable[str] | None = None) -> list[OwnParameters]:
    """The modules that own trainable parameters, in the order of the network.

    A parameter that several modules share is listed at the first of them only.

    Args:
        net: the network.
        only: names of the modules whose parameters are wanted, with those of the modules in them;
            None for all.

    Example:
        >>> a, b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2)
        >>> b.weight = a.weight
        >>> [list(each.parameters) for each in own_parameters(nn.Sequential(a, b))]
        [['weight'], ['bias']]
    """
    wanted = None if only is None else tuple(only)
    seen: set[int] = set()
    found = []
    for name, module in net.named_modules():
        if wanted is not None and not any(f"{name}.".startswith(f"{each}.") for each in wanted):
            continue
        own = {}
        for key, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and parameter.numel() and id(parameter) not in seen:
                seen.add(id(parameter))
                own[key] = parameter
        if own:
            found.append(OwnParameters(name, module, own))
    return found


def other_names(net: nn.Module) -> dict[str, tuple[str, ...]]:
    """The names of parameters and buffers in further modules, by their first names.

    A module that is listed twice has its first name only.

    Example:
        >>> a, b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2)
        >>> b.weight = a.weight
        >>> other_names(nn.Sequential(a, b, b))
        {'0.weight': ('1.weight',)}
    """
    first: dict[int, str] = {}
    found: dict[str, tuple[str, ...]] = {}
    for prefix, module in net.named_modules():
        for own, value in (*module._parameters.items(), *module._buffers.items()):
            if value is None:
                continue
            name = f"{prefix}.{own}" if prefix else own
            known = first.setdefault(id(value), name)
            if known != name:
                found[known] = (*found.get(known, ()), name)
    return found


def has_repeated_modules(net: nn.Module) -> bool:
    """Whether a module is listed under several names."""
    return sum(1 for _ in net.named_modules(remove_duplicate=False)) > sum(1 for _ in net.modules())


def check_copied(f: Tensor, original: nn.Module) -> None:
    """Check that outputs of a copy of a network do not depend on the original's parameters.

    `copy.deepcopy` does not copy functions, so that a lambda or a closure over the network still
    refers to the original.

    Args:
        f: outputs of the copy, with their graph.
        original: the network that was copied.

    Raises:
        ValueError: they do.
    """
    names = {id(p): name for name, p in original.named_parameters()}
    waiting, seen = [f.grad_fn], set[Any]()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        name = names.get(id(getattr(node, "variable", None)))
        if name is not None:
            raise ValueError(
                "net must refer to its parameters through self, but a function that it holds (a "
                f"lambda, a closure, a hook) refers to {name!r} itself; copy.deepcopy does not "
                "copy functions, so that copies of the network would use the original's parameters"
            )
        waiting += [following for following, _ in node.next_functions]


def _tensors(value: Any) -> Iterator[Tensor]:
    """Tensors in nested lists, tuples and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _detached(value: Tensor) -> Tensor | None:
    """A detached copy, or None where the tensor belongs to a transform that has ended."""
    try:
        return value.detach().clone()
    except RuntimeError:
        return None

"""What a function that makes a network takes from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bayesgen.provenance.contents import tensors

# Largest number of entries of a literal, such as torch.tensor([0.2, 0.5]), that is no data.
_LITERAL = 8
# Operations without tensors among their inputs that read a file.
_FILES = ("from_file",)


class _Operations(TorchDispatchMode):
    """Watches for operations on tensors that were not made while it is active.

    Attributes:
        foreign: the first such operation, in words, or "".
    """

    def __init__(self) -> None:
        super().__init__()
        self.foreign = ""
        # Storages are kept, so that no other one gets the address of one.
        self._own: dict[int, torch.UntypedStorage] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and note whether its inputs were made here."""
        given, name = _tensors((args, kwargs or {})), func.overloadpacket.__name__
        literal = name == "lift_fresh" and given[0].numel() <= _LITERAL
        read = given[1:] if name == "copy_" else [] if literal else given
        unknown = [t for t in read if not self.made(t)]
        if not self.foreign and (unknown or name in _FILES):
            what = f"a tensor {tuple(unknown[0].shape)}" if unknown else "a file"
            self.foreign = f"{func.overloadpacket} reads {what}"
        result = func(*args, **(kwargs or {}))
        if name == "copy_":
            filled = given[0].nbytes == given[0].untyped_storage().nbytes()
            new = [given[0]] if filled and not unknown else []
        else:  # a storage that a tensor is set to was filled elsewhere, unless it is known
            new = [] if name == "set_" else [*_tensors(result), *(given if literal else ())]
        for t in new:
            if t.layout == torch.strided:
                storage = t.untyped_storage()
                self._own[storage._cdata] = storage
        return result

    def made(self, t: Tensor) -> bool:
        """Whether a tensor has the storage of one that was made here."""
        return t.layout == torch.strided and t.untyped_storage()._cdata in self._own


def _tensors(found: Any) -> list[Tensor]:
    """The tensors among nested arguments."""
    if isinstance(found, Tensor):
        return [found]
    if isinstance(found, dict):
        found = tuple(found.values())
    if isinstance(found, list | tuple):
        return [t for part in found for t in _tensors(part)]
    return []


def made_without_data(make: Callable[[], Any]) -> tuple[Any, str]:
    """Result of make(), and what it was seen to take from outside, in words, or "".

    Every operation on tensors inside make() is watched, and what the network refers to is searched
    afterwards. A tensor, an array or a file from outside may have been chosen with observations.
    What is not recognised: Python numbers, memory that NumPy or another thread writes to, objects
    of other libraries, and what the network does later.

    Args:
        make: a function without arguments that makes a network.

    Example:
        >>> made_without_data(lambda: nn.Linear(2, 1))[1]
        ''
        >>> weights = torch.randn(9, 2)
        >>> made_without_data(lambda: nn.Embedding.from_pretrained(weights))[1]
        'the network refers to a tensor (9, 2)'
    """
    operations = _Operations()
    with operations:
        result = make()
    if operations.foreign or not isinstance(result, nn.Module):
        return result, operations.foreign
    held = tensors(result)
    if held is None:
        return result, "the network refers to too many objects to look at"
    for t in held:
        if not operations.made(t):
            return result, f"the network refers to a tensor {tuple(t.shape)}"
    return result, ""

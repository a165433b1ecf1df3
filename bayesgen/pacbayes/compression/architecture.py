"""The architecture of a network: a private copy, its description, and what a code can be made for.

A code stands for weights. The receiver holds everything else: the modules and their settings, the
order and shapes of the parameters, which of them are tied, the buffers, and numbers, tensors and
modules that are kept in attributes, lists and closures. `description` turns these into bytes, of
which the code keeps a checksum. A network whose outputs depend on anything more, such as random
numbers or the other rows of a batch, has no risk that belongs to its code.
"""

from __future__ import annotations

import copy
import hashlib
import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from bayesgen import provenance, verify
from bayesgen._internal import checks, random_state
from bayesgen._internal.words import plural
from bayesgen.networks.copies import check_copied
from bayesgen.networks.gradients import trainable_copy

# Rows on which a forward pass is tried and compared with passes of single rows.
_ROWS = 4
# Largest difference of probabilities between passes, in rounding units.
_ROUNDING = 1e4


def private(net: Any) -> nn.Module:
    """A copy of the network in evaluation mode, after checks of its parameters and buffers.

    Raises:
        TypeError: the argument is not a module; its parameters are not real numbers of one dtype.
        ValueError: it has no parameters, frozen ones, some on another device, or buffers that hold
            statistics of data; it cannot be copied.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, got {type(net).__name__}")
    parameters = list(net.parameters())
    if not parameters:
        raise ValueError("net must have parameters, got a module without any")
    if any(nn.parameter.is_lazy(p) for p in parameters):
        raise ValueError("net must have parameters of known shape; call it once on an input first")
    kinds = {p.dtype for p in parameters}
    if len(kinds) > 1 or not kinds <= {torch.float32, torch.float64}:
        raise TypeError(
            "net must have parameters of one dtype, float32 or float64, got "
            f"{', '.join(sorted(map(str, kinds)))}"
        )
    devices = {t.device for t in (*parameters, *net.buffers())}
    if len(devices) > 1:
        raise ValueError(f"net must be on one device, got {', '.join(map(str, devices))}")
    frozen = [name for name, p in net.named_parameters() if not p.requires_grad]
    if frozen:
        raise ValueError(
            f"net must have no frozen parameters, got {frozen[0]!r} with requires_grad=False: the "
            "code stands for all parameters; make it a buffer, which must be chosen before the "
            "data and which the receiver must hold too"
        )
    _check_statistics(net)
    return trainable_copy(net)


def check_own(net: nn.Module, x: Tensor, original: nn.Module) -> None:
    """Check that the scores of a private copy do not depend on the original's parameters.

    Args:
        net: the copy.
        x: some inputs, (m, …).
        original: the network that was copied.

    Raises:
        ValueError: they do.
    """
    with torch.enable_grad():
        check_copied(net(x.clone()), original)


def _check_statistics(net: nn.Module) -> None:
    """Check that no layer holds running statistics of data."""
    for name, module in net.named_modules():
        if not isinstance(module, _NormBase) or module.running_mean is None:
            continue
        mean, variance = module.running_mean, module.running_var
        assert variance is not None
        if bool((mean != 0).any()) or bool((variance != 1).any()):
            raise ValueError(
                f"net must hold no statistics of data, but those of layer {name!r} "
                f"({type(module).__name__}) differ from their initial values 0 and 1, which are "
                "not in the code; pass a freshly built network"
            )


def blank(net: nn.Module) -> nn.Module:
    """A copy of a private network without its weights, which are set to NaN."""
    own = copy.deepcopy(net)
    with torch.no_grad():
        for p in own.parameters():
            p.fill_(torch.nan)
    return own


def description(net: nn.Module, projection: str) -> bytes:
    """Bytes that tell an architecture from others.

    They depend on modules, parameters, ties, dtype, buffers, and what the modules hold beside them.

    Args:
        net: the network; neither its weights nor its mode matter.
        projection: name of the projection.
    """
    first: dict[int, str] = {}
    words = [projection, re.sub(r" at 0x[0-9a-fA-F]+", "", repr(net))]
    words += [f"{name} {type(module).__name__}" for name, module in net.named_modules()]
    for name, p in net.named_parameters(remove_duplicate=False):
        tied = first.setdefault(id(p), name)
        words.append(f"{name} {tuple(p.shape)} {p.dtype} {tied}")
    digest = hashlib.blake2b("\n".join(words).encode(), digest_size=16)
    for name, buffer in net.named_buffers():
        digest.update(f"{name} {tuple(buffer.shape)} {buffer.dtype}".encode())
        held = buffer.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(held.numpy().tobytes())
    digest.update(provenance.beside_state(net))
    return digest.digest()


def scores(net: nn.Module, x: Tensor, classes: int | None = None) -> Tensor:
    """Class scores of a network for rows x (m, …), (m, C), with checks of their shape.

    Raises:
        ValueError: the network cannot take the inputs, or returns something else than (m, C) finite
            scores.
    """
    with torch.no_grad():
        try:
            found = net(x.clone())  # a forward pass may change its input
        except (RuntimeError, TypeError, ValueError, IndexError) as err:
            raise ValueError(
                f"net must take inputs of shape {tuple(x.shape)} and dtype {x.dtype}: "
                f"{str(err).splitlines()[0] if str(err) else type(err).__name__}"
            ) from err
    check_scores(found, len(x), classes)
    if not torch.isfinite(found).all():
        raise ValueError("net must return finite class scores, got NaN or infinite ones")
    return checks.owned(found)


def check_scores(found: Any, rows: int, classes: int | None = None) -> None:
    """Check that the outputs of a network are class scores (rows, C).

    Raises:
        ValueError: they are not.
    """
    if not isinstance(found, Tensor):
        raise ValueError(f"net must return a tensor of class scores, got {type(found).__name__}")
    shape = tuple(found.shape)
    right = len(shape) == 2 and shape[0] == rows and shape[1] >= 2 and found.is_floating_point()
    if not right or (classes is not None and shape[1] != classes):
        wanted = "C ≥ 2" if classes is None else f"C = {classes}"
        raise ValueError(
            f"net must return class scores (n, C) with {wanted}, got {found.dtype} of shape "
            f"{shape} for {plural(rows, 'row')}"
        )


def check_deterministic(net: nn.Module, x: Tensor) -> None:
    """Check that the scores of a row depend on that row and on the weights only.

    A few rows are passed together, again, and one by one.

    Args:
        net: a private network.
        x: inputs, (n, …).

    Raises:
        ValueError: the scores are random, depend on the other rows, or change the buffers.
    """
    rows = x[verify.some_rows(len(x), _ROWS)]
    before = [b.clone() for b in net.buffers()]
    with random_state.kept([x.device]):
        together = scores(net, rows)
        again = scores(net, rows)
        if not _equal(together, again):
            raise ValueError(
                "net must give the same scores twice, but they differ between two calls in "
                "evaluation mode: its forward pass draws random numbers or keeps a state"
            )
        if any(not torch.equal(a, b) for a, b in zip(before, net.buffers(), strict=True)):
            raise ValueError(
                "net must keep its buffers in evaluation mode, but a forward pass changes them"
            )
        classes = together.shape[1]
        alone = torch.cat([scores(net, rows[i : i + 1], classes) for i in range(len(rows))])
    if not _equal(together, alone):
        raise ValueError(
            "net must treat each row by itself, but the scores of a row depend on the other rows "
            "of its batch, as with BatchNorm without running statistics"
        )


def _equal(a: Tensor, b: Tensor) -> bool:
    """Whether scores are equal up to rounding, as probabilities.

    One large score would hide differences of the others, if the scores were compared.
    """
    difference = a.double().softmax(-1) - b.double().softmax(-1)
    return float(difference.abs().max()) <= _ROUNDING * torch.finfo(a.dtype).eps

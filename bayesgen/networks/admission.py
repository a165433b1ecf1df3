"""Checks of a network that a user brings: it must be a fixed function of one observation."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from bayesgen import verify
from bayesgen._internal import random_state
from bayesgen._internal.precision import tf32
from bayesgen.networks.inputs import Inputs, call, tensors

# Number of evaluations of a network that draws random numbers.
_REPEATS = 32
# Words of torch's warning about a block under torch.utils.checkpoint without derivatives, which it
# also gives where none are wanted.
NO_GRADIENT = "None of the inputs have requires_grad"
Run = Callable[[Any], Tensor]


@contextmanager
def undisturbed(net: nn.Module) -> Iterator[None]:
    """Context of passes through a copy of a network, in full precision.

    The states of the random generators are restored. Fused kernels without second derivatives, of
    attention and transformer layers and of recurrent layers on a GPU, are not used.
    """
    devices = {t.device for t in (*net.parameters(), *net.buffers())}
    fused = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", NO_GRADIENT)
        stack.enter_context(random_state.kept(devices))
        stack.enter_context(tf32(False))
        gpu = any(device.type == "cuda" for device in devices)
        if gpu and any(isinstance(m, nn.RNNBase) for m in net.modules()):
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)


@contextmanager
def unchanged(net: nn.Module) -> Iterator[None]:
    """Context of passes in which a network must not change its parameters.

    Raises:
        ValueError: it does.
    """
    before = {name: p._version for name, p in net.named_parameters()}
    yield
    for name, p in net.named_parameters():
        if p._version != before[name]:
            raise ValueError(
                f"net must not change its parameters in forward, but {name!r} was changed; an "
                "embedding with max_norm does so"
            )


def scores(f: Any, n: int) -> Tensor:
    """Outputs of a network for n inputs as (n, C); outputs (n,) become (n, 1).

    Raises:
        TypeError: the network did not return one tensor of floating-point numbers.
        ValueError: the outputs have another shape.
    """
    if not isinstance(f, Tensor):
        raise TypeError(
            f"net must return one tensor of shape (n, C), got {_kind(f)}; pass a module that "
            "returns the scores alone"
        )
    if not f.is_floating_point():
        raise TypeError(f"net must return floating-point numbers, got dtype {f.dtype}")
    if f.ndim == 2 and len(f) == n:
        return f
    if f.ndim < 2 and f.numel() == n:
        return f.reshape(n, 1)
    squeezed = n == 1 and f.ndim == 1
    hint = "; a squeeze() in forward removes the axis of a single observation" if squeezed else ""
    raise ValueError(
        f"net must map {n} inputs to scores of shape ({n}, C), got {tuple(f.shape)}{hint}"
    )


def first_outputs(net: nn.Module, x: Any) -> Tensor:
    """Outputs (m, C) for the first one or two inputs, with a graph where gradients are enabled.

    Raises:
        TypeError, ValueError: the network fails on these inputs, or its outputs do not have shape
            (m, C).
    """
    rows = x[:2]
    try:
        f = call(net, rows)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as err:
        raise ValueError(_failure(net, rows, err)) from err
    return scores(f, len(rows))


def admit(net: nn.Module, run: Run, x: Any, f: Tensor) -> verify.Check:
    """Check that a network gives the same outputs for single observations as in a batch.

    Args:
        net: the network, for messages.
        run: function from inputs (b, …) to outputs (b, C), as it is used in the computation.
        x: some inputs, (m, …).
        f: outputs for these inputs that were computed in a larger batch, (m, C).

    Raises:
        ValueError: the outputs are random, or depend on the other observations of a batch.
    """

    def alone() -> Tensor:
        with torch.no_grad():
            return torch.cat([run(x[i : i + 1]) for i in range(len(x))])

    return independent(net, run, x, f, alone)


def independent(
    net: nn.Module, run: Run, x: Any, f: Tensor, alone: Callable[[], Tensor]
) -> verify.Check:
    """Check as in `admit`, with outputs from a given function, which runs each observation alone.

    A network that draws random numbers is evaluated several times, because a part that is seldom
    left out may be present in a few evaluations.
    """
    before = random_state.snapshot(f.device)
    try:
        found = alone()
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as err:
        if isinstance(err, ValueError) and "net must" in str(err):
            raise
        raise ValueError(
            "net must map each observation alone, but it fails on a batch of one: "
            f"{_first_line(err)}{_mixing_layers(net)}"
        ) from err
    check = verify.compare("outputs of the network for single observations", found, f)
    draws = random_state.snapshot(f.device) != before
    if check.passed and not draws:
        return check
    worst = 0.0
    with torch.no_grad():
        first = run(x)
        for _ in range(_REPEATS if draws else 1):
            again = verify.compare("outputs of the network, computed twice", run(x), first)
            worst = worst if again.passed else max(worst, again.difference)
    if worst:
        raise ValueError(
            "net must be a deterministic function, but two evaluations of the same inputs differ "
            f"by {worst:.2g} of the largest output; turn its randomness off in evaluation mode"
        )
    if not check.passed and math.isnan(check.difference):
        raise ValueError("net must have finite outputs, but some of them are not")
    if not check.passed:
        raise ValueError(
            "net must map each observation independently of the others in its batch, but outputs "
            f"for one observation alone differ by {check.difference:.2g} of the largest output"
            f"{_mixing_layers(net)}"
        )
    return check


def same_in_other_batches(run: Run, x: Any, f: Tensor, batch: int) -> None:
    """Check that all outputs are found again in batches of another size and order.

    Args:
        run: function from inputs (b, …) to outputs (b, C).
        x: inputs, (n, …).
        f: outputs, (n, C), that were computed in batches in the given order.
        batch: size of these batches.

    Raises:
        ValueError: some outputs depend on the other observations of a batch.
    """
    again = torch.empty_like(f)
    with torch.no_grad():
        for rows in other_batches(len(f), batch):
            again[rows] = run(x[rows.to(f.device)])
    check_other_batches(again, f)


def other_batches(n: int, batch: int) -> tuple[Tensor, ...]:
    """Observations in a random order, in batches of a size, or in two where all fit into one."""
    order = verify.random_vector(n, torch.empty(0)).argsort(0)[:, 0]
    return order.split(batch if batch < n else -(-n // 2))


def check_other_batches(again: Tensor, f: Tensor) -> None:
    """Check that outputs (n, C) of two groupings into batches agree.

    Raises:
        ValueError: they do not.
    """
    check = verify.compare("outputs in other batches", again, f)
    if not check.passed:
        raise ValueError(
            "net must map each observation independently of the others in its batch, but outputs "
            f"in other batches differ by {check.difference:.2g} of the largest output"
        )


def dtypes_differ(own: torch.dtype, given: Sequence[str]) -> str:
    """The message about a network of one dtype and inputs of another."""
    name = str(own).removeprefix("torch.")
    found = ", ".join(each.removeprefix("torch.") for each in given)
    method = {"float64": "double", "float32": "float"}.get(name, f"to(torch.{name})")
    method = method if method.endswith(")") else f"{method}()"
    other = "double()" if found == "float64" else "float()" if found == "float32" else "to(x.dtype)"
    return (
        f"the network is {name}, x is {found}: convert the inputs (x.{method}) or the network "
        f"(net.{other})"
    )


def _failure(net: nn.Module, rows: Any, err: Exception) -> str:
    """Message about a network that fails on its first inputs."""
    own = next(p.dtype for p in net.parameters())
    given = sorted({str(t.dtype) for t in tensors(rows)})
    floats = {t.dtype for t in tensors(rows) if t.is_floating_point()}
    if floats and floats != {own} and ("dtype" in str(err) or "type" in str(err)):
        return f"{dtypes_differ(own, given)} ({_first_line(err)})"
    shape = [tuple(t.shape) for t in tensors(rows)]
    words = f"net fails on inputs of shape {shape[0] if len(shape) == 1 else shape}: "
    words += _first_line(err)
    if isinstance(rows, Inputs) and rows.keyword and not rows.spread:
        takes = ", ".join(inspect.signature(net.forward).parameters)
        words += (
            f"; x has the keys {', '.join(map(repr, rows.parts))} and forward takes ({takes}), so "
            "that it received the whole mapping"
        )
    elif "indices" in str(err) and floats:
        words += "; an embedding takes integers: convert the tokens, e.g. x.long()"
    elif not floats:
        words += (
            "; integer inputs are passed on as they are: convert them, e.g. x.double(), if they "
            "are measurements"
        )
    elif "dtype" in str(err) or "type" in str(err):
        words += (
            f"; if forward itself creates tensors of another dtype than {own}, pass that dtype "
            "(dtype=torch.float32) or use the dtype of the input; layers in a Python list are no "
            "part of the network and keep their own dtype (use nn.ModuleList)"
        )
    return words


def _first_line(err: Exception) -> str:
    text = str(err).strip().splitlines()
    return f"{type(err).__name__}: {text[0]}" if text else type(err).__name__


def _kind(value: Any) -> str:
    """A returned value in words."""
    name = type(value).__name__
    article = "an" if name[:1].lower() in "aeiou" else "a"
    return f"{article} {name}"


def _mixing_layers(net: nn.Module) -> str:
    """A hint at BatchNorm without running statistics, which mixes observations."""
    kind = nn.modules.batchnorm._BatchNorm
    names = [
        name
        for name, m in net.named_modules()
        if isinstance(m, kind) and (m.running_mean is None or m.training)
    ]
    if not names:
        return ""
    return (
        f"; layer {names[0]!r} is a BatchNorm without running statistics, which mixes "
        "observations: use track_running_stats=True"
    )

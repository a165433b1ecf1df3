"""Passes through a network with a graph, and checks that gradients reach its parameters."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bayesgen.networks.admission import NO_GRADIENT, admit, first_outputs, scores, unchanged
from bayesgen.networks.copies import check_copied, frozen_copy, own_parameters, plain
from bayesgen.networks.inputs import Inputs, call
from bayesgen.networks.state import first_not_finite
from bayesgen.verify import some_rows

# Number of observations whose outputs are computed twice.
_SOME = 8


@contextmanager
def without_gradients() -> Iterator[None]:
    """Context of passes without a graph, in which reentrant checkpoints do not warn about it."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", message=NO_GRADIENT)
        yield


@contextmanager
def differentiating() -> Iterator[None]:
    """Context in which graphs are recorded, whatever the caller's context is."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def trainable(net: Any, name: str = "net", *, in_place: bool = True) -> nn.Module:
    """Check a network that is to be trained, and return it without wrappers.

    Args:
        net: the network.
        name: name of the argument, for messages.
        in_place: whether its own parameters are trained, not those of a copy.

    Raises:
        TypeError: the argument is not a module written in Python; a trainable parameter is not of
            float32 or float64.
        ValueError: there are no trainable parameters; a parameter or a buffer is not finite; a
            parameter was made in inference mode.
    """
    net = plain(net, name)
    for own, parameter in net.named_parameters():
        if parameter.requires_grad and parameter.dtype not in (torch.float32, torch.float64):
            raise TypeError(
                f"{name} must have trainable parameters of dtype float32 or float64, but {own!r} "
                f"has {parameter.dtype}; convert it, e.g. with {name}.float()"
            )
        if in_place and parameter.is_inference():
            raise ValueError(
                f"{name} must have parameters that were made outside of torch.inference_mode, "
                f"which {own!r} was not; make them outside, or pass copy.deepcopy({name})"
            )
    bad = first_not_finite(net)
    if bad is not None:
        raise ValueError(f"{name} must have finite values, but {bad!r} holds NaN or infinite ones")
    return net


def trainable_copy(net: nn.Module) -> nn.Module:
    """A copy in evaluation mode in which the same parameters require gradients.

    Backward hooks are left out; see `frozen_copy`.
    """
    net = plain(net)
    copied = frozen_copy(net)
    theirs = dict(copied.named_parameters())
    for name, parameter in net.named_parameters():
        theirs[name].requires_grad_(parameter.requires_grad)
    return copied


def first_pass(net: nn.Module, x: Any, original: nn.Module | None) -> tuple[Tensor, bool]:
    """Outputs (m, C) for the first one or two inputs, with their graph and checks of the network.

    Args:
        net: the network.
        x: inputs, (n, …).
        original: the network that `net` is a copy of, if it is one.

    Returns:
        The outputs, and whether a reentrant checkpoint let no gradients through.

    Raises:
        TypeError, ValueError: the network fails on the inputs, its outputs do not have shape
            (m, C), or they depend on the parameters of the original.
    """
    with warnings.catch_warnings(record=True) as said, torch.enable_grad():
        warnings.simplefilter("always")
        f = first_outputs(net, x)
    stopped = False
    for each in said:
        if NO_GRADIENT in str(each.message):
            stopped = True
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    if original is not None:
        check_copied(f, original)
    return f, stopped


class Passes:
    """Outputs (n, C) of a network for batches of inputs.

    A reentrant checkpoint (`torch.utils.checkpoint` with `use_reentrant=True`) lets gradients
    through only where its inputs require gradients. The inputs require them where this is needed.

    Args:
        net: the network, in the mode in which it is checked here.
        x: inputs, of which at most two are used here.
        kind: what the outputs are called in messages: "outputs" or "features".
        original: the network that `net` is a copy of, if it is one.

    Attributes:
        first: outputs for the first one or two inputs, without a graph.

    Raises:
        TypeError, ValueError: the network fails on the inputs, or its outputs do not have shape
            (n, C), or they do not depend on its trainable parameters.
    """

    def __init__(
        self, net: nn.Module, x: Any, kind: str = "outputs", original: nn.Module | None = None
    ) -> None:
        self.net, self._through = net, False
        f, stopped = first_pass(net, x, original)
        if stopped:
            self._through = True
            f, stopped = first_pass(net, tracked(x[:2]), original)
            if stopped:
                raise ValueError(
                    "net uses torch.utils.checkpoint with use_reentrant=True where no input "
                    "requires gradients, so that no gradients reach its parameters; use "
                    "use_reentrant=False"
                )
        if not f.requires_grad:
            raise ValueError(
                f"net must have {kind} that depend on its trainable parameters, but they carry no "
                "gradients; forward must neither run under torch.no_grad() nor detach its result"
            )
        self.first = f.detach()

    def __call__(self, rows: Any) -> Tensor:
        """Outputs for a batch of inputs, (n, C); the network receives a copy of the inputs."""
        if self._through and torch.is_grad_enabled():
            rows = tracked(rows)
        return scores(call(self.net, rows), len(rows))

    def values(self, rows: Any) -> Tensor:
        """Outputs for a batch of inputs, (n, C), without a graph."""
        with without_gradients():
            return self(rows)

    def admit(self, x: Any) -> None:
        """Check that the network is one function of each observation alone, on a few inputs.

        Raises:
            ValueError: it is random, mixes the observations of a batch, or changes its parameters.
        """
        rows = x[some_rows(len(x), _SOME).to(x.device)]
        with unchanged(self.net):
            admit(self.net, self.values, rows, self.values(rows))


def parameters(net: nn.Module) -> list[nn.Parameter]:
    """The trainable parameters in the order of `own_parameters`, each once."""
    return [p for each in own_parameters(net) for p in each.parameters.values()]


def fill_gradients(weights: Sequence[Tensor]) -> None:
    """Set the gradients of parameters that a loss does not depend on to zero.

    Sparse gradients, of embeddings with `sparse=True`, become dense ones.
    """
    for parameter in weights:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        elif parameter.grad.is_sparse:
            parameter.grad = parameter.grad.to_dense()


def tracked(rows: Any) -> Any:
    """Inputs whose floating-point tensors require gradients."""
    if isinstance(rows, Inputs):
        return rows._with({name: tracked(part) for name, part in rows.parts.items()})
    return rows.detach().requires_grad_() if rows.is_floating_point() else rows

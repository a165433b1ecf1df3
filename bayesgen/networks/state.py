"""Keep the state of networks that are trained in place, and restore it after an exception."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import TracebackType

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

# Hooks of torch that compute a weight from other parameters before each forward pass.
_COMPUTED = (WeightNorm, SpectralNorm, BasePruningMethod)


class Kept:
    """Context in which networks are trained in place.

    At its end the `.grad` fields are as they were before. After an exception, an interruption
    included, parameters and buffers have the values of the last `record`, and each module is in its
    former mode. Without an exception the networks are in evaluation mode.

    Args:
        nets: the networks.

    Example:
        >>> net = nn.Linear(1, 1)
        >>> before = net.weight.detach().clone()
        >>> try:
        ...     with Kept(net):
        ...         _ = nn.init.zeros_(net.weight)
        ...         raise KeyboardInterrupt
        ... except KeyboardInterrupt:
        ...     bool(net.weight == before), net.training
        (True, True)
    """

    def __init__(self, *nets: nn.Module) -> None:
        self.nets = nets
        self._modes = [(module, module.training) for net in nets for module in net.modules()]
        self._gradients = [(p, p.grad) for net in nets for p in net.parameters()]
        self.record()

    def record(self) -> None:
        """Keep the present values of parameters and buffers."""
        parameters = [(p, p.detach().clone()) for net in self.nets for p in net.parameters()]
        buffers = [
            (module, name, buffer, buffer.detach().clone())
            for net in self.nets
            for module in net.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]
        self._values = parameters, buffers

    def recall(self) -> None:
        """Restore the values of the last `record`."""
        parameters, buffers = self._values
        with torch.no_grad():
            for parameter, value in parameters:
                parameter.copy_(value)
            for module, name, buffer, value in buffers:
                module._buffers[name] = buffer.copy_(value)

    def __enter__(self) -> Kept:
        for parameter, _ in self._gradients:
            parameter.grad = None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.recall()
        for net in self.nets:
            net.eval()
            recompute(net)
        if kind is not None:
            for module, mode in self._modes:
                module.training = mode
        for parameter, gradient in self._gradients:
            parameter.grad = gradient


def recompute(net: nn.Module) -> None:
    """Compute again the weights that hooks of torch derive from other parameters.

    They are attributes of modules, which keep their values until the next forward pass.
    """
    with torch.no_grad():
        for module in net.modules():
            for hook in module._forward_pre_hooks.values():
                if isinstance(hook, _COMPUTED):
                    hook(module, None)


def first_not_finite(net: nn.Module) -> str | None:
    """Name of the first parameter or floating-point buffer that holds NaN or infinity."""
    named = [(name, value) for name, value in _named(net) if value.is_floating_point()]
    if not named:
        return None
    with torch.no_grad():
        where = named[0][1].device
        finite = torch.stack([torch.isfinite(value).all().to(where) for _, value in named])
    bad = (~finite).nonzero()
    return named[int(bad[0])][0] if len(bad) else None


def first_gradient_not_finite(net: nn.Module) -> str | None:
    """Name of the first parameter whose gradient holds NaN or infinity."""
    named = [(name, p.grad) for name, p in net.named_parameters() if p.grad is not None]
    if math.isfinite(sum(torch.stack([g.sum() for _, g in named]).tolist()) if named else 0.0):
        return None
    # The sum may have overflowed, so that the entries decide.
    return next((name for name, g in named if not bool(torch.isfinite(g).all())), None)


def _named(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from net.named_parameters()
    yield from net.named_buffers()

"""The weights of a network as one vector θ, ordered by layer, with products of its Jacobian."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

from bayesgen._internal import checks
from bayesgen._internal.precision import tf32


@dataclass(frozen=True)
class Leaf:
    """A module that owns trainable parameters, and their position in θ.

    Attributes:
        name: name of the module in the network.
        module: the module.
        columns: columns of θ for each of its own parameter names.
    """

    name: str
    module: nn.Module
    columns: dict[str, slice]

    @property
    def size(self) -> int:
        """Number of parameters of the module."""
        return sum(c.stop - c.start for c in self.columns.values())

    @property
    def span(self) -> slice:
        """Columns of θ of the module, which are contiguous."""
        own = list(self.columns.values())
        return slice(own[0].start, own[-1].stop)

    def index(self) -> Tensor:
        """Indices in θ of the module's parameters, in their order."""
        return torch.cat([torch.arange(c.start, c.stop) for c in self.columns.values()])


class Weights:
    """The trainable parameters of a frozen copy of a network.

    BatchNorm and dropout are in evaluation mode: running statistics are used and nothing is
    dropped.

    Attributes:
        net: the copy; its parameters do not require gradients.
        leaves: the modules that own the parameters, in the order of θ.
        theta: θ, (P,).
        partial: whether the network has other weights, which stay fixed.

    Args:
        net: any module.
        dtype: dtype of the copy; None keeps the network's own.
        only: names of the modules whose parameters are kept; None keeps all.

    Raises:
        TypeError: net is not a module.
        ValueError: net has no trainable parameters.
    """

    def __init__(
        self, net: nn.Module, dtype: torch.dtype | None, only: Iterable[str] | None = None
    ) -> None:
        checks.network("net", net)
        trainable = {name for name, p in net.named_parameters() if p.requires_grad}
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        if dtype is not None and any(t.dtype != dtype for t in _floats(self.net)):
            self.net.to(dtype)
        self._user_layout = _is_channels_last(self.net)
        self._lay_out()
        wanted = None if only is None else set(only)
        self.partial = only is not None
        self.leaves: list[Leaf] = []
        start, parts, names = 0, [], []
        for prefix, module in self.net.named_modules():
            if wanted is not None and prefix not in wanted:
                continue
            columns = {}
            for own, parameter in module.named_parameters(recurse=False):
                full = f"{prefix}.{own}" if prefix else own
                if full not in trainable:
                    continue
                columns[own] = slice(start, start + parameter.numel())
                start += parameter.numel()
                parts.append(parameter.detach().reshape(-1))
                names.append(full)
            if columns:
                self.leaves.append(Leaf(prefix, module, columns))
        self.names = tuple(names)
        self.theta = torch.cat(parts)

    def converted(self, dtype: torch.dtype) -> Weights:
        """A copy of the weights in another dtype."""
        other = copy.deepcopy(self)
        other.net.to(dtype)
        other._lay_out()
        other.theta = other.theta.to(dtype)
        return other

    def _lay_out(self) -> None:
        """Put the copy in channels-last layout where that is measured to be faster and is safe.

        It is faster for float32 convolutions on a CPU. A network that its user has put in
        channels-last layout keeps that layout.
        """
        kept = next(self.net.parameters())
        self.channels_last = (
            kept.dtype == torch.float32
            and kept.device.type == "cpu"
            and not self._user_layout
            and _wide_convolutions(self.net)
        )
        if self.channels_last:
            self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def laid_out(self, x: Tensor) -> Tensor:
        """Inputs in the memory layout that the network processes fastest."""
        if self.channels_last and x.ndim == 4:
            return x.contiguous(memory_format=torch.channels_last)
        return x

    def pieces(self, x: Tensor, batch: int) -> Iterator[Tensor]:
        """Inputs in that layout, a batch at a time."""
        return (self.laid_out(rows) for rows in x.split(batch))

    @property
    def count(self) -> int:
        """Number of weights, P."""
        return len(self.theta)

    @property
    def slices(self) -> dict[str, slice]:
        """Columns of θ for the full name of each parameter."""
        return {
            f"{leaf.name}.{own}" if leaf.name else own: columns
            for leaf in self.leaves
            for own, columns in leaf.columns.items()
        }

    def layers(self) -> Tensor:
        """Index of the layer of each weight, (P,)."""
        index = torch.empty_like(self.theta, dtype=torch.int64)
        for number, leaf in enumerate(self.leaves):
            index[leaf.index()] = number
        return index

    def packed(self, named: dict[str, Tensor]) -> Tensor:
        """Join parameters given by name into one vector, (P,) float64, on the device of θ."""
        parts = [named[name].reshape(-1) for name in self.names]
        return torch.cat(parts).to(self.theta.device, torch.float64)

    def unpacked(self, theta: Tensor) -> dict[str, Tensor]:
        """Split θ into named parameters for `torch.func.functional_call`; leading axes are kept."""
        parameters = dict(self.net.named_parameters())
        return {
            name: theta[..., columns].reshape(*theta.shape[:-1], *parameters[name].shape)
            for name, columns in self.slices.items()
        }

    def outputs(self, x: Tensor, batch: int) -> Tensor:
        """Outputs of the network, (n, C), computed batch by batch.

        Raises:
            ValueError: the outputs have another shape or are not finite.
        """
        with torch.no_grad(), tf32(False):
            f = torch.cat([self.net(rows) for rows in self.pieces(x, batch)])
        return self.checked(f, len(x))

    def outputs_at(self, theta: Tensor, x: Tensor, batch: int = 256) -> Tensor:
        """Outputs of the network at other weights θ (P,), (n, C)."""
        named = self.unpacked(theta)
        with torch.no_grad(), tf32(False):
            pieces = [functional_call(self.net, named, (r,)) for r in self.pieces(x, batch)]
        return torch.cat(pieces)

    def checked(self, f: Tensor, n: int) -> Tensor:
        """Return the outputs of n inputs after checking their shape and values.

        Raises:
            ValueError: the outputs have another shape or are not finite.
        """
        if f.ndim != 2 or len(f) != n:
            raise ValueError(
                f"net must map {n} inputs to scores of shape ({n}, C), got {tuple(f.shape)}"
            )
        return checks.real("net(x)", f)

    @tf32(False)
    def jvp(self, x: Tensor, step: Tensor, batch: int = 256) -> Tensor:
        """Product J(x) δ, (n, C), for a direction δ (P,) in weight space."""

        def along(rows: Tensor) -> Tensor:
            def run(theta: Tensor) -> Tensor:
                return functional_call(self.net, self.unpacked(theta), (rows,))

            return jvp(run, (self.theta,), (step.to(self.theta),))[1]

        return torch.cat([along(rows) for rows in self.pieces(x, batch)])

    @tf32(False)
    def vjp(self, x: Tensor, v: Tensor, batch: int = 256) -> Tensor:
        """Product Jᵀv, (P,) in float64, for v (n, C): the gradient of Σ v·f in the weights."""
        total = torch.zeros(self.count, dtype=torch.float64, device=x.device)
        theta = self.theta.clone().requires_grad_()
        for rows, part in zip(self.pieces(x, batch), v.to(x).split(batch), strict=True):
            with torch.enable_grad():
                f = functional_call(self.net, self.unpacked(theta), (rows,))
                total += torch.autograd.grad(f, theta, part)[0].double()
        return total


def _floats(net: nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers with a floating-point dtype."""
    return (t for t in (*net.parameters(), *net.buffers()) if t.is_floating_point())


# oneDNN's AVX2 kernel for the backward pass of 1 × 1 convolutions in channels-last layout hangs or
# writes out of bounds below 8 channels (torch 2.13.0); 16 leaves a margin.
_LEAST_CHANNELS = 16


def _wide_convolutions(net: nn.Module) -> bool:
    """Whether there are 2-d convolutions and all are wide enough for the channels-last layout.

    The input channels of a kernel larger than 1 × 1 are not counted: images have three, and such
    kernels run through other code.
    """
    convolutions = [
        module for module in net.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    ]

    def wide(module: nn.Conv2d | nn.ConvTranspose2d) -> bool:
        pointwise = max(module.kernel_size) == 1
        inputs = module.in_channels // module.groups if pointwise else _LEAST_CHANNELS
        outputs = module.out_channels // (module.groups if pointwise else 1)
        return min(inputs, outputs) >= _LEAST_CHANNELS

    return bool(convolutions) and all(wide(module) for module in convolutions)


def _is_channels_last(net: nn.Module) -> bool:
    """Whether some parameter is in channels-last layout and not in torch's default one."""
    return any(
        p.ndim == 4 and p.is_contiguous(memory_format=torch.channels_last) and not p.is_contiguous()
        for p in net.parameters()
    )

"""The weights of a network as one vector θ, ordered by layer, with products of its Jacobian."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import jvp

from bayesgen import verify
from bayesgen._internal import checks
from bayesgen._internal.precision import tf32
from bayesgen.networks import admission
from bayesgen.networks.copies import (
    detached_copies,
    frozen_copy,
    other_names,
    own_parameters,
    plain,
)
from bayesgen.networks.gradients import first_pass, tracked
from bayesgen.networks.inputs import call, call_at


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

    A parameter that several modules share is one entry of θ, at the first of these modules.

    Attributes:
        net: the copy; its parameters do not require gradients.
        leaves: the modules that own the parameters, in the order of θ.
        names: full names of the parameters, in the order of θ.
        theta: θ, (P,).
        only: names of the modules that the weights were limited to; None for the whole
            network.
        direct: names of the leaves whose Jacobian rows do not follow from inputs and outputs of the
            layer; see `bayesgen.curvature.row_paths`.

    Args:
        net: any module.
        dtype: dtype of the copy; None keeps the network's own.
        only: names of the modules whose parameters are kept, with those of the modules in them;
            None keeps all.

    Raises:
        TypeError: net is not a module.
        ValueError: net has no trainable parameters, or none in the modules named.
    """

    def __init__(
        self, net: nn.Module, dtype: torch.dtype | None, only: Iterable[str] | None = None
    ) -> None:
        net = plain(net)
        wanted = None if only is None else tuple(only)
        owned = own_parameters(net, wanted)
        if not owned:
            raise ValueError(
                f"net must have trainable parameters in {', '.join(map(repr, wanted or ()))}, got "
                "none: their requires_grad is False"
            )
        self.net = frozen_copy(net)
        if dtype is not None and any(t.dtype != dtype for t in _floats(self.net)):
            self.net.to(dtype)
        kinds = {t.dtype for t in self.net.parameters() if t.is_floating_point()}
        if len(kinds) > 1:
            raise ValueError(
                f"net must have parameters of one dtype, got {', '.join(sorted(map(str, kinds)))}; "
                "pass dtype=torch.float64 or torch.float32"
            )
        self._user_layout = _is_channels_last(self.net)
        self._lay_out()
        self.only = None if wanted is None else ", ".join(wanted)
        self.direct: frozenset[str] = frozenset()
        self._derivative: str | None = None
        self._track_inputs = False
        self.leaves: list[Leaf] = []
        start, names = 0, []
        for each in owned:
            columns = {}
            for own, parameter in each.parameters.items():
                columns[own] = slice(start, start + parameter.numel())
                start += parameter.numel()
                names.append(each.full(own))
            self.leaves.append(Leaf(each.name, self.net.get_submodule(each.name), columns))
        self.names = tuple(names)
        named = dict(self.net.named_parameters(remove_duplicate=False))
        self._own = tuple(named[name] for name in names)
        self._others = other_names(self.net)
        self._original: nn.Module | None = net
        self.theta = torch.cat([p.detach().reshape(-1) for p in self._own])

    def converted(self, dtype: torch.dtype) -> Weights:
        """A copy of the weights in another dtype."""
        other = copy.deepcopy(self)
        other.net.to(dtype)
        other._lay_out()
        other.theta = other.theta.to(dtype)
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Weights:
        memo.update(detached_copies(self.net))
        other = type(self).__new__(type(self))
        memo[id(self)] = other
        other.__dict__.update(copy.deepcopy(self.__dict__, memo))
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

    def laid_out(self, x: Any) -> Any:
        """Inputs in the memory layout that the network processes fastest."""
        if self.channels_last and isinstance(x, Tensor) and x.ndim == 4:
            return x.contiguous(memory_format=torch.channels_last)
        return x

    def evaluate(self, rows: Any, named: dict[str, Tensor] | None = None) -> Tensor:
        """Outputs (b, C) of one batch, at θ or at other named parameters; see `unpacked`."""
        if self._track_inputs and torch.is_grad_enabled():
            rows = tracked(rows)
        if named is None:
            return admission.scores(call(self.net, self.laid_out(rows)), len(rows))
        f = call_at(self.net, named, self._others, self.laid_out(rows))
        return admission.scores(f, len(rows))

    @contextmanager
    def tracking(self) -> Iterator[Sequence[Tensor]]:
        """Context in which θ's parameters require gradients; it gives the parameters.

        The network is run with its own parameters and not with `functional_call`, because blocks
        under `torch.utils.checkpoint` are evaluated again in the backward pass.
        """
        try:
            with torch.enable_grad():
                for p in self._own:
                    p.requires_grad_(True)
                yield self._own
        finally:
            for p in self._own:
                p.requires_grad_(False)
                p.grad = None

    @property
    def partial(self) -> bool:
        """Whether the network has other weights, which stay fixed."""
        return self.only is not None

    @property
    def head(self) -> nn.Module:
        """The one module that the weights were limited to."""
        return self.net.get_submodule(self.only or "")

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
        shapes = dict(zip(self.names, self._own, strict=True))
        return {
            name: theta[..., columns].reshape(*theta.shape[:-1], *shapes[name].shape)
            for name, columns in self.slices.items()
        }

    def first_outputs(self, x: Any) -> Tensor:
        """Outputs (m, C) for the first one or two inputs, with checks of the network.

        A block under `torch.utils.checkpoint` with use_reentrant=True has derivatives only where
        its input requires gradients; torch warns if it does not. Inputs then require gradients from
        here on.

        Raises:
            TypeError, ValueError: the network fails on these inputs, or its outputs do not have
                shape (m, C) or are not finite.
        """
        with self.tracking(), admission.unchanged(self.net):
            f, stopped = first_pass(self.net, self.laid_out(x[:2]), self._original)
        self._track_inputs |= stopped
        self._original = None
        return self.checked(f.detach())

    def outputs(self, x: Any, batch: int) -> Tensor:
        """Outputs of the network, (n, C), computed batch by batch.

        Raises:
            ValueError: the outputs have another shape or are not finite.
        """
        with torch.no_grad(), tf32(False):
            f = torch.cat([self.evaluate(rows) for rows in x.split(batch)])
        return self.checked(f)

    def outputs_at(self, theta: Tensor, x: Any, batch: int = 256) -> Tensor:
        """Outputs of the network at other weights θ (P,), (n, C)."""
        named = self.unpacked(theta)
        with torch.no_grad(), tf32(False):
            return torch.cat([self.evaluate(rows, named) for rows in x.split(batch)])

    def checked(self, f: Tensor) -> Tensor:
        """Return outputs after checking their dtype and values.

        Raises:
            ValueError: the outputs have another dtype than the weights, or are not finite.
        """
        if f.dtype != self.theta.dtype:
            raise ValueError(
                f"net must compute in {self.theta.dtype}, the dtype of its weights, but returns "
                f"{f.dtype}: forward converts its values; pass dtype={f.dtype}, or convert "
                "nothing in forward"
            )
        return checks.real("net(x)", f)

    @tf32(False)
    def jvp(self, x: Any, step: Tensor, batch: int = 256) -> Tensor:
        """Product J(x) δ, (n, C), for a direction δ (P,) in weight space.

        Forward-mode derivatives are used where they agree with a vjp on a few observations. Some
        layers have none, or wrong ones; then two reverse passes are used, or all rows of J.
        """
        step = step.to(self.theta)
        if self._derivative is None:
            self._derivative = self._chosen(x[: min(len(x), _FEW)], step)
        return torch.cat([_DERIVATIVES[self._derivative](self, r, step) for r in x.split(batch)])

    def _chosen(self, few: Any, step: Tensor) -> str:
        """The first kind of derivative with vᵀ(Jδ) = (Jᵀv)ᵀδ for random v on a few observations."""
        with torch.no_grad():
            f = self.evaluate(few)
        v = verify.random_vector(f.numel(), self.theta).reshape(f.shape)
        each = self.vjp(few, v) * step.double()
        allowed = torch.finfo(self.theta.dtype).eps ** 0.4 * each.abs().sum()
        for kind, along in _DERIVATIVES.items():
            try:
                found = along(self, few, step).double()
            except (MemoryError, torch.OutOfMemoryError):
                raise
            except Exception:  # some layer has no derivative of this kind
                continue
            if bool(((found * v.double()).sum() - each.sum()).abs() <= allowed):
                return kind
        return _LAST_RESORT

    def _forward(self, rows: Any, step: Tensor) -> Tensor:
        def run(theta: Tensor) -> Tensor:
            return self.evaluate(rows, self.unpacked(theta))

        with torch.no_grad():
            return jvp(run, (self.theta,), (step,))[1]

    def _twice_reverse(self, rows: Any, step: Tensor) -> Tensor:
        """The derivative of u → (Jᵀu)ᵀδ, which is linear in u."""
        with self.tracking() as own:
            f = self.evaluate(rows)
            u = torch.zeros_like(f, requires_grad=True)
            back = torch.autograd.grad(
                f, own, u, create_graph=True, allow_unused=True, materialize_grads=True
            )
            along = torch.cat([g.reshape(-1) for g in back]) @ step
            return torch.autograd.grad(along, u)[0]

    def _by_rows(self, rows: Any, step: Tensor) -> Tensor:
        """Products of the single rows of J with δ."""
        found = []
        for i in range(len(rows)):
            with self.tracking():
                f = self.evaluate(rows[i : i + 1])[0]
                each = [self.pulled(value, torch.ones_like(value), keep=True) for value in f]
            found.append(torch.stack(each) @ step)
        return torch.stack(found)

    @tf32(False)
    def vjp(self, x: Any, v: Tensor, batch: int = 256) -> Tensor:
        """Product Jᵀv, (P,) in float64, for v (n, C): the gradient of Σ v·f in the weights."""
        total = torch.zeros(self.count, dtype=torch.float64, device=self.theta.device)
        for rows, part in zip(x.split(batch), v.to(self.theta).split(batch), strict=True):
            with self.tracking():
                total += self.pulled(self.evaluate(rows), part).double()
        return total

    def pulled(self, f: Tensor, v: Tensor, *, keep: bool = False) -> Tensor:
        """Product Jᵀv, (P,), for outputs f and v (b, C); within `tracking`.

        Args:
            f: outputs of a batch, (b, C), or a function of them.
            v: vector, of the shape of f.
            keep: whether the graph is kept for another product.
        """
        return torch.cat([g.reshape(-1) for g in _pulled(f, self._own, v, keep)])


# Kinds of derivatives J δ, the fastest first.
_LAST_RESORT = "rows"
_DERIVATIVES: dict[str, Callable[[Weights, Any, Tensor], Tensor]] = {
    "forward": Weights._forward,
    "reverse": Weights._twice_reverse,
    _LAST_RESORT: Weights._by_rows,
}
# Number of observations on which a kind of derivative is tried.
_FEW = 3


def _pulled(f: Tensor, own: Sequence[Tensor], v: Tensor, keep: bool) -> list[Tensor]:
    """The vjp of f in some parameters; zero for those that f does not depend on.

    `backward` is used, because `torch.utils.checkpoint` with use_reentrant=True supports no other.
    """
    if not f.requires_grad:
        return [torch.zeros_like(p) for p in own]
    for p in own:
        p.grad = None
    with differentiable():
        f.backward(v, retain_graph=keep)
    # The gradient of an embedding may be sparse.
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in own]
    return [g.to_dense() if g.layout != torch.strided else g for g in found]


@contextmanager
def differentiable() -> Iterator[None]:
    """Context of a reverse pass; its errors say that the network has no derivative."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as err:
        stored = "second time" in str(err)
        hint = "; does a module store a tensor of an earlier pass?" if stored else ""
        raise ValueError(
            "net must be differentiable in its weights, but a reverse pass fails: "
            f"{str(err).splitlines()[0]}{hint}"
        ) from err


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

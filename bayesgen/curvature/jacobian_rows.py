"""Rows vᵀ∂f/∂θ of a network's Jacobian, for each observation and layer.

They are computed from the inputs of each layer and the gradients at its outputs, as in BackPACK
(Dangel et al. 2020). Neither a copy of the weights for each observation nor the whole Jacobian is
stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from bayesgen.curvature.parameters import Leaf, Weights


class NoLayerRowsError(Exception):
    """A layer was not called as a function of one tensor with the observations first."""


# A layer's rows for one batch: inputs (b, …), gradients (K, b, …) → parameter name → (b, K, numel).
Handler = Callable[[Any, Tensor, Tensor], dict[str, Tensor]]
_HANDLERS: dict[type, Handler] = {}


def handles(*kinds: type) -> Callable[[Handler], Handler]:
    """Register a function that computes Jacobian rows fast for layers of these types."""

    def register(function: Handler) -> Handler:
        _HANDLERS.update(dict.fromkeys(kinds, function))
        return function

    return register


@dataclass(frozen=True)
class Part:
    """Some output channels of a layer, or the whole layer where it cannot be split.

    Attributes:
        leaf: the layer.
        channels: range of output channels; None for all.
    """

    leaf: Leaf
    channels: slice | None = None

    def index(self) -> Tensor:
        """Indices in θ of the part's parameters."""
        if self.channels is None:
            return self.leaf.index()
        pieces = []
        for own, columns in self.leaf.columns.items():
            rows = len(getattr(self.leaf.module, own))
            each = (columns.stop - columns.start) // rows
            start = columns.start + self.channels.start * each
            pieces.append(torch.arange(start, columns.start + self.channels.stop * each))
        return torch.cat(pieces)

    def split(self, largest: int) -> list[Part]:
        """Split into parts of at most `largest` parameters, where the layer allows it."""
        size, module = self.leaf.size, self.leaf.module
        if size <= largest or type(module) not in (nn.Linear, nn.Conv2d):
            return [self]
        out = len(getattr(module, next(iter(self.leaf.columns))))
        step = max(1, out * largest // size)
        return [
            replace(self, channels=slice(start, min(start + step, out)))
            for start in range(0, out, step)
        ]


@dataclass(frozen=True)
class Pass:
    """Forward pass of one batch, with the inputs and outputs of selected layers.

    Attributes:
        outputs: f, (b, C).
        calls: for each layer its calls, each with its input (b, …) and its output in the graph.
        broken: names of layers with a call that has another first axis, or not one tensor.
        together: whether one backward pass computes the gradients for several vectors.
    """

    outputs: Tensor
    calls: dict[str, list[tuple[Tensor, Tensor]]]
    broken: frozenset[str] = frozenset()
    together: bool = False

    def passes(self, vectors: Tensor) -> Iterator[dict[str, list[Tensor]]]:
        """Gradients (k, b, …) at each layer's calls, for k of the vectors v (b, C, K) at a time."""
        each = vectors.movedim(-1, 0)
        for some in [each] if self.together else each.split(1):
            found = iter(self._back(some))
            yield {name: [next(found) for _ in calls] for name, calls in self.calls.items()}

    def _back(self, vectors: Tensor) -> list[Tensor]:
        """Gradients (k, b, …) at every call for vectors (k, b, C), by one backward pass."""
        flat = [output for calls in self.calls.values() for _, output in calls]
        if not flat or not self.outputs.requires_grad:
            return [g.new_zeros(len(vectors), *g.shape) for g in flat]
        alone = len(vectors) == 1
        found = torch.autograd.grad(
            self.outputs,
            flat,
            vectors[0] if alone else vectors,
            retain_graph=True,
            materialize_grads=True,
            is_grads_batched=not alone,
        )
        return [g[None] if alone else g for g in found]

    def gradients(self, vectors: Tensor) -> dict[str, list[tuple[Tensor, Tensor]]]:
        """For each layer, its calls as (input, gradients (K, b, …)) for vectors v (b, C, K)."""
        return self.joined(list(self.passes(vectors)))

    def joined(self, each: list[dict[str, list[Tensor]]]) -> dict[str, list[tuple[Tensor, Tensor]]]:
        """For each layer, its calls as (input, gradients (K, b, …)), joined from `passes`."""
        return {
            name: [
                (self.calls[name][number][0], torch.cat([one[name][number] for one in each]))
                for number in range(len(each[0][name]))
            ]
            for name in each[0]
        }


def forward(weights: Weights, x: Any, leaves: list[Leaf]) -> Pass:
    """Run one batch through the network and record inputs and outputs of the given layers."""
    calls: dict[str, list[tuple[Tensor, Tensor]]] = {leaf.name: [] for leaf in leaves}
    versions: list[tuple[str, Tensor, int]] = []
    broken: set[str] = set()
    handles = []
    for leaf in leaves:

        def keep(module: nn.Module, given: Any, output: Any, name: str = leaf.name) -> Any:
            if not _is_plain(given, output):
                broken.add(name)
                return None
            inputs = _batched(module, given[0].detach(), output, len(x))
            if inputs is None:
                broken.add(name)
                inputs = given[0].detach()
            if not output.requires_grad:  # no parameter before it requires a gradient
                output = output.detach().requires_grad_()
            calls[name].append((inputs, output))
            versions.append((name, given[0], given[0]._version))
            return output.clone()  # the next layer may work in place

        handles.append(leaf.module.register_forward_hook(keep))
    try:
        with torch.enable_grad():
            f = weights.evaluate(x)
    finally:
        for handle in handles:
            handle.remove()
    broken |= {name for name, given, version in versions if given._version != version}
    return Pass(f, calls, frozenset(broken), _all_linear(weights.net))


def _is_plain(given: Any, output: Any) -> bool:
    """Whether a layer maps one tensor to one tensor."""
    return len(given) == 1 and isinstance(given[0], Tensor) and isinstance(output, Tensor)


def _batched(module: nn.Module, inputs: Tensor, output: Tensor, count: int) -> Tensor | None:
    """The input (b, …) of a call of a layer, or None where observations are not its first axis.

    A linear layer may see each observation as several successive rows.
    """
    if not inputs.ndim or not output.ndim or len(inputs) != len(output):
        return None
    if len(inputs) == count:
        return inputs
    if type(module) is nn.Linear and inputs.ndim == 2 and len(inputs) % count == 0:
        return inputs.reshape(count, -1, inputs.shape[-1])
    return None


def _all_linear(net: nn.Module) -> bool:
    """Whether a network consists of torch's own layers and has no convolution.

    In such a network the overhead of calls dominates, and one batched backward pass for all vectors
    makes fewer calls. With convolutions, a batched pass was measured to take a third longer.
    Modules from elsewhere may not support it.
    """
    return all(
        type(m).__module__.startswith("torch.nn.") and not isinstance(m, nn.modules.conv._ConvNd)
        for m in net.modules()
    )


def rows(
    weights: Weights, x: Any, vectors: Tensor, parts: list[Part]
) -> Iterator[tuple[Part, Tensor]]:
    """Rows of vᵀJ for one batch, part by part; see `bayesgen.curvature.row_paths.rows`.

    Raises:
        NoLayerRowsError: a layer is not called as a function of one tensor.
    """
    leaves = list({part.leaf.name: part.leaf for part in parts}.values())
    passed = forward(weights, x, leaves)
    if passed.broken:
        raise NoLayerRowsError(", ".join(sorted(passed.broken)))
    gradients = passed.gradients(vectors)
    return ((part, layer_rows(part, gradients[part.leaf.name], len(x), vectors)) for part in parts)


def tried(weights: Weights, x: Any, vectors: Tensor, parts: list[Part]) -> list[Tensor | None]:
    """The rows of each part, (b, K, p), or None where they cannot be computed from its layer."""
    leaves = list({part.leaf.name: part.leaf for part in parts}.values())
    try:
        passed = forward(weights, x, leaves)
        gradients = passed.gradients(vectors)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception:
        return [None] * len(parts)
    found: list[Tensor | None] = []
    for part in parts:
        wanted = (len(x), vectors.shape[-1], len(part.index()))
        try:
            own = layer_rows(part, gradients[part.leaf.name], len(x), vectors)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception:
            own = vectors.new_empty(0)
        usable = part.leaf.name not in passed.broken and own.shape == wanted
        found.append(own if usable else None)
    return found


def layer_rows(
    part: Part, calls: list[tuple[Tensor, Tensor]], count: int, vectors: Tensor
) -> Tensor:
    """Rows (b, K, p) of one part, computed from the calls of its layer."""
    module = part.leaf.module
    handler = _HANDLERS.get(type(module), _any)
    if type(module) is nn.Conv2d and (module.groups != 1 or module.padding_mode != "zeros"):
        handler = _any
    total: dict[str, Tensor] = {}
    for inputs, gradients in calls:
        if part.channels is not None:
            axis = 2 if type(module) is nn.Conv2d else -1
            gradients = gradients.narrow(
                axis, part.channels.start, part.channels.stop - part.channels.start
            )
        for own, found in handler(module, inputs, gradients).items():
            total[own] = total[own] + found if own in total else found
    missing = vectors.new_zeros(count, vectors.shape[-1], 1)
    pieces = [
        total.get(own, missing.expand(-1, -1, c.stop - c.start))
        for own, c in part.leaf.columns.items()
    ]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, -1)


@handles(nn.Linear)
def _linear(_: nn.Linear, inputs: Tensor, gradients: Tensor) -> dict[str, Tensor]:
    b, K = len(inputs), len(gradients)
    a = inputs.reshape(b, -1, inputs.shape[-1])
    g = gradients.reshape(K, b, -1, gradients.shape[-1]).transpose(0, 1)  # (b, K, T, out)
    weight = torch.einsum("bkto,bti->bkoi", g, a)
    return {"weight": weight.reshape(b, K, -1), "bias": g.sum(2)}


@handles(nn.Conv2d)
def _conv2d(module: nn.Conv2d, inputs: Tensor, gradients: Tensor) -> dict[str, Tensor]:
    K, b, out = gradients.shape[:3]
    g = gradients.reshape(K, b, out, -1).transpose(0, 1).reshape(b, K * out, -1)
    weight = torch.bmm(g, patches(module, inputs).mT)
    return {"weight": weight.reshape(b, K, -1), "bias": g.sum(-1).reshape(b, K, out)}


@handles(nn.BatchNorm1d, nn.BatchNorm2d)
def _batch_norm(module: nn.BatchNorm2d, inputs: Tensor, gradients: Tensor) -> dict[str, Tensor]:
    if module.running_mean is None or module.running_var is None:
        raise ValueError(
            "BatchNorm without running statistics mixes observations: it has no per-observation "
            "Jacobian; use track_running_stats=True"
        )
    shape = (-1, *[1] * (inputs.ndim - 2))
    mean, variance = module.running_mean.reshape(shape), module.running_var.reshape(shape)
    normal = (inputs - mean) / (variance + module.eps).sqrt()
    K, b, channels = gradients.shape[:3]
    weight = (gradients * normal).reshape(K, b, channels, -1).sum(-1)
    bias = gradients.reshape(K, b, channels, -1).sum(-1)
    return {"weight": weight.transpose(0, 1), "bias": bias.transpose(0, 1)}


def _any(module: nn.Module, inputs: Tensor, gradients: Tensor) -> dict[str, Tensor]:
    """Rows of any other module, by torch.func, with a copy of its own parameters for each row.

    Where a layer has no rule for vmap, the rows are computed one after the other.
    """
    own = {name: p.detach() for name, p in module.named_parameters(recurse=False)}

    def one(row: Tensor, cotangents: Tensor, each: Callable[..., Any] = vmap) -> dict[str, Tensor]:
        def run(parameters: dict[str, Tensor]) -> Tensor:
            return functional_call(module, parameters, (row[None],))[0]

        pull = vjp(run, own)[1]
        found: dict[str, Tensor] = each(pull)(cotangents)[0]
        return {name: g.reshape(len(cotangents), -1) for name, g in found.items()}

    turned = gradients.transpose(0, 1)
    try:
        return vmap(one)(inputs, turned)
    except RuntimeError:
        pieces = [one(row, g, _looped) for row, g in zip(inputs, turned, strict=True)]
        return {name: torch.stack([piece[name] for piece in pieces]) for name in pieces[0]}


def _looped(pull: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    """The function that `vmap` gives, by a loop over the first axis."""

    def every(cotangents: Tensor) -> Any:
        found = [pull(g)[0] for g in cotangents]
        return ({name: torch.stack([each[name] for each in found]) for name in found[0]},)

    return every


def patches(module: nn.Conv2d, inputs: Tensor) -> Tensor:
    """Input patches at each position of a convolution, (b, in·k², T)."""
    padded = nn.functional.pad(inputs, ends(module))
    return nn.functional.unfold(padded, module.kernel_size, module.dilation, 0, module.stride)


def windows(module: nn.Conv2d, inputs: Tensor) -> Tensor:
    """The same patches with channels last, (b, T, k²·in), which are faster to build."""
    left, right, top, bottom = ends(module)
    x = nn.functional.pad(inputs.permute(0, 2, 3, 1), (0, 0, left, right, top, bottom))
    x = x.contiguous()
    b, height, width, channels = x.shape
    (kh, kw), (dh, dw), (sh, sw) = module.kernel_size, module.dilation, module.stride
    size = (height - dh * (kh - 1) - 1) // sh + 1, (width - dw * (kw - 1) - 1) // sw + 1
    each, down, along, _ = x.stride()
    seen = x.as_strided(
        (b, *size, kh, kw, channels), (each, sh * down, sw * along, dh * down, dw * along, 1)
    )
    return seen.reshape(b, size[0] * size[1], kh * kw * channels)


def ends(module: nn.Conv2d) -> list[int]:
    """Zero padding at the left, right, top and bottom of a convolution's inputs."""
    padding: Any = module.padding
    if padding == "valid":
        padding = (0, 0)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return [n for t in reversed(total) for n in (t // 2, t - t // 2)]
    return [n for p in reversed(padding) for n in (p, p)]

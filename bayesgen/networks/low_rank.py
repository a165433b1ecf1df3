"""Networks whose linear layers are fixed random matrices plus trained ones of low rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from bayesgen._internal import checks
from bayesgen.networks.copies import frozen_copy, other_names


class LowRank(nn.Module):
    """A linear layer with weight W₀ + ½UV: W₀ is a buffer, U (out, r) and V (r, in) are trained.

    Args:
        base: W₀, (out, in), chosen before the data.
        left: initial U, (out, r); V is zero initially.
        bias: whether there is a trained bias, initially zero.

    The matrices are copied.

    Raises:
        TypeError: the matrices do not hold real numbers, or differ in dtype.
        ValueError: they have other shapes, or values that are not finite.

    Source: Hu et al. (2021).

    Example:
        >>> LowRank(torch.randn(3, 5), torch.randn(3, 2))(torch.zeros(7, 5)).shape
        torch.Size([7, 3])
    """

    base: Tensor

    def __init__(self, base: Tensor, left: Tensor, *, bias: bool = False) -> None:
        super().__init__()
        base = checks.owned(checks.real("base", base))
        left = checks.owned(checks.real("left", left, like=base))
        if base.ndim != 2 or left.ndim != 2 or len(base) != len(left):
            raise ValueError(
                "base and left must have shapes (out, in) and (out, r), got "
                f"{tuple(base.shape)} and {tuple(left.shape)}"
            )
        self.register_buffer("base", base)
        self.left = nn.Parameter(left)
        self.right = nn.Parameter(base.new_zeros(left.shape[1], base.shape[1]))
        self.bias = nn.Parameter(base.new_zeros(len(base))) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output, (…, out)."""
        low = functional.linear(functional.linear(x, self.right), self.left)
        return functional.linear(x, self.base, self.bias) + 0.5 * low


def low_rank(net: nn.Module, rank: int, seed: int = 0, *, keep: Sequence[str] = ()) -> nn.Module:
    """A copy of a network with `LowRank` layers in place of its larger linear layers.

    Args:
        net: any network; it is not changed. Each `torch.nn.Linear` with more than r·(in + out)
            weights is replaced, unless its weight is shared with another module. A layer that is
            used in several places stays one layer.
        rank: r, at least 1.
        seed: seed of the fixed matrices W₀, which are drawn as in He et al. (2015); those of the
            network are not used.
        keep: names of layers that are left as they are.

    Raises:
        TypeError: the network is no module; `keep` is a text.
        ValueError: the network has no layer of a name in `keep`; the rank is below 1; no
            layer is large enough.

    Source: Lotfi et al. (2023), section 4.2 (SubLoRA), with `bayesgen.pacbayes.compress`.

    Example:
        >>> net = low_rank(nn.Sequential(nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 2)), 4)
        >>> sum(p.numel() for p in net.parameters())
        752
    """
    checks.whole("rank", rank)
    copied = frozen_copy(net).requires_grad_(True)
    generator = torch.Generator().manual_seed(checks.seed(seed))
    drawn = partial(torch.randn, generator=generator, dtype=torch.float64)
    every = dict(copied.named_modules())
    if isinstance(keep, str):
        raise TypeError(f"keep must be a list of names of layers, got the text {keep!r}")
    unknown = [name for name in keep if name not in every]
    if unknown:
        raise ValueError(f"keep must hold names of layers of net, got {unknown[0]!r}")
    kept = {id(every[name]) for name in keep}
    several = {word for name, others in other_names(copied).items() for word in (name, *others)}
    names = {module: name for name, module in copied.named_modules()}
    # The network as the child of a module, so that it may be a linear layer itself.
    whole = nn.ModuleList([copied])
    replaced: dict[nn.Module, LowRank] = {}
    for module in list(whole.modules()):
        for name, layer in list(module._modules.items()):
            if type(layer) is not nn.Linear or id(layer) in kept:
                continue
            rows, columns = layer.weight.shape
            tied = f"{names[layer]}.weight".removeprefix(".") in several
            if tied or rows * columns <= rank * (rows + columns):
                continue
            if layer not in replaced:
                base, left = (
                    (math.sqrt(2 / size) * drawn(rows, size)).to(layer.weight.detach())
                    for size in (columns, rank)
                )
                replaced[layer] = LowRank(base, left, bias=layer.bias is not None)
            module._modules[name] = replaced[layer]
    if not replaced:
        raise ValueError(
            "rank must be such that r·(in + out) is below the number of weights of a linear layer "
            f"of net which shares them with no other, got {rank}"
        )
    return whole[0]

"""Networks whose linear layers are fixed random matrices plus trained ones of low rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from bayesgen._internal import checks
from bayesgen.networks.copies import frozen_copy


class LowRank(nn.Module):
    """A linear layer with weight W₀ + ½UV: W₀ is a buffer, U (out, r) and V (r, in) are trained.

    Args:
        base: W₀, (out, in), chosen before the data.
        left: initial U, (out, r); V is zero initially.
        bias: whether there is a trained bias, initially zero.

    Source: Hu et al. (2021).
    """

    base: Tensor

    def __init__(self, base: Tensor, left: Tensor, *, bias: bool = False) -> None:
        super().__init__()
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
            weights is replaced.
        rank: r, at least 1.
        seed: seed of the fixed matrices W₀, which are drawn as in He et al. (2015); those of the
            network are not used.
        keep: names of layers that are left as they are.

    Raises:
        TypeError: the network is no module.
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
    unknown = [name for name in keep if name not in every]
    if unknown:
        raise ValueError(f"keep must hold names of layers of net, got {unknown[0]!r}")
    kept = {id(every[name]) for name in keep}
    changed = 0
    for module in every.values():
        for name, layer in list(module.named_children()):
            if type(layer) is not nn.Linear or id(layer) in kept:
                continue
            rows, columns = layer.weight.shape
            if rows * columns <= rank * (rows + columns):
                continue
            base, left = (
                (math.sqrt(2 / size) * drawn(rows, size)).to(layer.weight.detach())
                for size in (columns, rank)
            )
            setattr(module, name, LowRank(base, left, bias=layer.bias is not None))
            changed += 1
    if not changed:
        raise ValueError(f"rank must be below that of a linear layer of net, got {rank}")
    return copied

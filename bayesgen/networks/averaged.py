"""A network averaged over transformed inputs, which makes it invariant over a range."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bayesgen._internal import checks

Transform = Callable[[Tensor, Tensor], Tensor]


def midpoints(nodes: int, like: Tensor) -> Tensor:
    """Centres of m equal intervals of [−1, 1], (m,): the nodes of an average with equal weights."""
    steps = torch.arange(nodes, dtype=like.dtype, device=like.device)
    return (2 * steps + 1) / nodes - 1


class Averaged(nn.Module):
    """The mean of a network's outputs over transformed inputs, f̄(x) = mean_t f(T_t x).

    The amounts t are the centres of equal intervals of [−range, range]. Over a range of 0, f̄ is the
    network itself. The range is a constant of the network, so that `bayesgen.Laplace` gives the
    evidence of the weights at this range; compare several ranges by their evidence. With
    `range_trains=True` it is a parameter, on which the outputs depend differentiably.

    Args:
        net: module from inputs (n, …) to outputs (n, C).
        transform: function (x, t) from inputs (n, …) and a tensor t, (), to inputs (n, …), such as
            `bayesgen.networks.transforms.Rotation((1, 8, 8))`.
        range: largest amount, ≥ 0, in the units of the transform.
        nodes: number m of amounts.
        range_trains: whether the range is a parameter.

    Raises:
        TypeError: the network is not a module, the transform is not callable, or the range is no
            number.
        ValueError: the range is negative or not finite; the number of nodes is below 1.

    Source: van der Wilk et al. (2018), section 4; Immer et al. (2022), eq. 5.

    Example:
        >>> from bayesgen.networks.transforms import Rotation
        >>> net = Averaged(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), Rotation((1, 8, 8)), 0.5)
        >>> net(torch.zeros(3, 1, 8, 8)).shape
        torch.Size([3, 10])
    """

    def __init__(
        self,
        net: nn.Module,
        transform: Transform,
        range: float,
        *,
        nodes: int = 8,
        range_trains: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(net, nn.Module):
            raise TypeError(f"net must be a torch.nn.Module, got {type(net).__name__}")
        check_transform(transform)
        span = checks.amount("range", range)
        self.net, self.transform = net, transform
        self.nodes = checks.whole("nodes", nodes)
        like = next(net.parameters(), torch.zeros(()))
        value = torch.tensor(span, dtype=like.dtype, device=like.device)
        if range_trains:
            self.range = nn.Parameter(value)
        else:
            self.register_buffer("range", value)

    def forward(self, x: Tensor) -> Tensor:
        """Averaged outputs (n, C) of inputs x (n, …)."""
        if not self.range.requires_grad and not bool(self.range):
            return self.net(x)
        moved = torch.cat([apply(self.transform, x, t) for t in self.amounts()])
        return self.net(moved).unflatten(0, (self.nodes, -1)).mean(0)

    def amounts(self) -> Tensor:
        """The amounts t, (m,)."""
        return self.range * midpoints(self.nodes, self.range)


def check_transform(transform: Any) -> None:
    """Check that an argument can be called.

    Raises:
        TypeError: it cannot.
    """
    if isinstance(transform, type) or not callable(transform):
        name = transform.__name__ if isinstance(transform, type) else type(transform).__name__
        raise TypeError(f"transform must be a function (x, t) → x, got {name}")


def apply(transform: Transform, x: Tensor, t: Tensor) -> Tensor:
    """Inputs after a user's transform, which must keep their number, dtype and device.

    Raises:
        TypeError, ValueError: it does not.
    """
    moved = transform(x.clone(), t)  # A transform may work in place.
    if not isinstance(moved, Tensor) or moved.dtype != x.dtype:
        got = moved.dtype if isinstance(moved, Tensor) else type(moved).__name__
        raise TypeError(f"transform must return a tensor of dtype {x.dtype}, got {got}")
    if len(moved) != len(x):
        raise ValueError(
            f"transform must return one row for each of the {len(x)} inputs, got shape "
            f"{tuple(moved.shape)}"
        )
    return moved

"""A kernel averaged over transformed inputs: functions that are invariant over a range."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import gpytorch
import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen.networks.averaged import apply, check_transform, midpoints


class Invariant(gpytorch.kernels.Kernel):
    """The kernel of f̄(x) = mean_t f(T_t x) for f ~ GP(0, k): k averaged over both inputs.

        k̄(x, x') = (1/m²) Σ_a Σ_b k(T_a x, T_b x')

    The amounts a, b are the centres of m equal intervals of [−range, range]. The range is learnt
    by maximising the evidence, as any parameter of a kernel is. A range near 0 gives back k. A
    range that covers a whole cyclic group, such as [−π, π] for rotations of the plane, makes k̄
    invariant under rotations by 2π/m where T_a T_b = T_{a+b}. Rotations of images by interpolation
    satisfy this at right angles only. The kernel is positive semi-definite by construction.

    Args:
        kernel: the kernel k, any gpytorch kernel; it is part of this kernel and not copied.
        transform: function (x, t) from inputs (n, d) and a tensor t, (), to inputs (n, d'), such as
            `bayesgen.networks.transforms.Rotation((1, 8, 8))`. It must be differentiable in t,
            unless the range is fixed by `kernel.raw_range.requires_grad_(False)`.
        range: starting value, within the limits, in the units of the transform.
        limits: interval within which the range is learnt, 0 ≤ low < high, in the units of the
            transform; the default suits angles. A range found at an end is reported by `at_bound`
            of the posterior.
        nodes: number m of amounts.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: the range lies outside the limits; the number of nodes is below 1.

    Source: van der Wilk et al. (2018), eq. 6; Kondor (2008) for averages over groups.

    Example:
        >>> from bayesgen.networks.transforms import Rotation
        >>> kernel = Invariant(gpytorch.kernels.RBFKernel(), Rotation((1, 8, 8)), range=1.0)
        >>> x = torch.rand(5, 64)
        >>> kernel(x).to_dense().shape, round(kernel.range.item(), 3)
        (torch.Size([5, 5]), 1.0)
    """

    has_lengthscale = False

    def __init__(
        self,
        kernel: gpytorch.kernels.Kernel,
        transform: Callable[[Tensor, Tensor], Tensor],
        range: float = 0.3,
        *,
        limits: tuple[float, float] = (0.01, math.pi),
        nodes: int = 8,
    ) -> None:
        super().__init__()
        if not isinstance(kernel, gpytorch.kernels.Kernel):
            raise TypeError(f"kernel must be a gpytorch kernel, got {type(kernel).__name__}")
        check_transform(transform)
        if not isinstance(limits, Sequence) or len(limits) != 2:
            raise TypeError(f"limits must be two numbers (low, high), got {limits!r}")
        low, high = (checks.amount("limits", each) for each in limits)
        if not low < high:
            raise ValueError(f"limits must be 0 ≤ low < high, both finite, got {limits}")
        value = checks.amount("range", range)
        if not low < value < high:
            raise ValueError(f"range must lie within its limits ({low}, {high}), got {value}")
        self.kernel, self.nodes = kernel, checks.whole("nodes", nodes)
        # A kernel with an attribute `function` contains code of the user and is checked in a fit.
        self.function = transform
        self.register_parameter("raw_range", torch.nn.Parameter(torch.zeros(1)))
        self.register_constraint("raw_range", gpytorch.constraints.Interval(low, high))
        self.range = value

    @property
    def range(self) -> Tensor:
        """Largest amount of the transform, (1,)."""
        value: Tensor = self.raw_range_constraint.transform(self.raw_range)
        return value

    @range.setter
    def range(self, value: Any) -> None:
        low, high = self.raw_range_constraint.lower_bound, self.raw_range_constraint.upper_bound
        span = checks.amount("range", value)
        if not float(low) < span < float(high):
            raise ValueError(
                f"range must lie within its limits ({float(low):g}, {float(high):g}), got {span:g}"
            )
        given = torch.full_like(self.raw_range, span)
        self.initialize(raw_range=self.raw_range_constraint.inverse_transform(given))

    @property
    def is_stationary(self) -> bool:
        """False: the covariance is no function of x − x'."""
        return False

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **_: Any) -> Tensor:
        """Covariances k̄(x1, x2), (..., n1, n2); with diag, k̄(x1ᵢ, x2ᵢ), (..., n)."""
        m = self.nodes
        same = x1 is x2 or (x1.shape == x2.shape and torch.equal(x1, x2))
        left = self._moved(x1)
        right = left if same else self._moved(x2)
        if diag:
            pairs = [(a, b) for a in left.unbind(-3) for b in right.unbind(-3)]
            sums: Tensor = sum(self.kernel(a, b, diag=True) for a, b in pairs)
            return sums / m**2
        rows = left.flatten(-3, -2)
        columns = [self.kernel(rows, b).to_dense() for b in right.unbind(-3)]
        summed: Tensor = sum(c.unflatten(-2, (m, -1)).sum(-3) for c in columns)
        return summed / m**2

    def _moved(self, x: Tensor) -> Tensor:
        """All transformed inputs, (..., m, n, d')."""
        rows = x.reshape(-1, x.shape[-1])
        amounts = self.range * midpoints(self.nodes, self.range)
        each = [apply(self.function, rows, t).reshape(*x.shape[:-1], -1) for t in amounts]
        return torch.stack(each, -3)

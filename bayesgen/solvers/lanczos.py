"""Lanczos quadrature: spectral measures of an operator from its matrix products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen.solvers.matmul import product
from bayesgen.solvers.quadrature import Measure

# Number of entries below which Rademacher vectors may coincide.
_FEW = 64

Multiply = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Tridiagonal:
    """Tridiagonal Lanczos matrices of q starting vectors.

    Attributes:
        diagonal: diagonal entries, (q, k).
        off: off-diagonal entries, (q, k); the last one belongs to the next step.
        size: squared norms of the starting vectors, (q,).
    """

    diagonal: Tensor
    off: Tensor
    size: Tensor

    def gauss(self) -> Measure:
        """Gauss quadrature of each starting vector's spectral measure, nodes and weights (q, k)."""
        values, vectors = torch.linalg.eigh(self._matrix(self.diagonal, self.off[:, :-1]))
        return Measure(values, self.size[:, None] * vectors[:, 0].square())

    def radau(self, end: float) -> Measure:
        """Gauss–Radau quadrature of each spectral measure with a node at `end`, (q, k + 1).

        For f(λ) = 1/(λ + ρ), Gauss quadrature is a lower bound of vᵀf(A)v. Gauss–Radau quadrature
        with its node at or below the smallest eigenvalue is an upper bound.

        Source: Golub & Meurant (2010), sections 6.2 and 6.4.
        """
        k = self.diagonal.shape[1]
        shifted = self._matrix(self.diagonal - end, self.off[:, :-1])
        unit = shifted.new_zeros(k, 1)
        unit[-1] = 1
        # The last pivot of a semi-definite matrix may vanish; this shift is below the rounding
        # level.
        largest = shifted.abs().amax((1, 2)).clamp(min=1e-290)
        nudge = torch.finfo(shifted.dtype).eps * largest[:, None]
        shifted.diagonal(dim1=-2, dim2=-1).add_(nudge)
        last = torch.linalg.solve(shifted, unit.expand(len(shifted), k, 1))[:, -1, 0]
        diagonal = torch.cat([self.diagonal, (end + self.off[:, -1] ** 2 * last)[:, None]], 1)
        values, vectors = torch.linalg.eigh(self._matrix(diagonal, self.off))
        return Measure(values, self.size[:, None] * vectors[:, 0].square())

    @staticmethod
    def _matrix(diagonal: Tensor, off: Tensor) -> Tensor:
        return torch.diag_embed(diagonal) + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)


def tridiagonalise(multiply: Multiply, start: Tensor, steps: int) -> Tridiagonal:
    """Lanczos iteration from q starting vectors, each with complete reorthogonalisation.

    Args:
        multiply: function V (n, q) → AV, A symmetric.
        start: starting vectors, (n, q).
        steps: number of steps k ≤ n.

    Returns:
        The tridiagonal matrices, in float64, on the device of the starting vectors.

    Source: Golub & Van Loan (2013), section 10.3.6, with complete reorthogonalisation.
    """
    n, q = start.shape
    size = start.double().square().sum(0)
    basis = start.new_zeros(steps, n, q)
    diagonal, off = size.new_zeros(q, steps), size.new_zeros(q, steps)
    v = start / size.sqrt().clamp(min=torch.finfo(torch.float64).tiny).to(start)
    floor = torch.finfo(start.dtype).eps * n**0.5
    top = size.new_zeros(q)
    for k in range(steps):
        basis[k] = v
        w = multiply(v)
        diagonal[:, k] = (v * w).sum(0).double()
        for _ in range(2):  # two passes suffice (Kahan)
            for kept in basis[: k + 1]:
                w = w - kept * (kept * w).sum(0)
        length = w.double().norm(dim=0)
        top = torch.maximum(top, diagonal[:, k].abs() + length)
        live = length > floor * top  # below this, w is rounding error
        off[:, k] = torch.where(live, length, torch.zeros_like(length))
        v = torch.where(live, w / length.clamp(min=1e-300).to(w), torch.zeros_like(w))
    return Tridiagonal(diagonal, off, size)


def probes(n: int, count: int, seed: int, like: Tensor) -> Tensor:
    """Random vectors of squared norm n, (n, count), drawn on the CPU for equal results everywhere.

    They are Rademacher vectors. Of few entries, two of these would often coincide up to their sign;
    then the vectors are uniformly distributed on the sphere.
    """
    generator = torch.Generator().manual_seed(checks.seed(seed))
    if n >= _FEW:
        return (2.0 * torch.randint(2, (n, count), generator=generator) - 1).to(like)
    normal = torch.randn(n, count, generator=generator, dtype=torch.float64)
    return (normal * (n**0.5 / normal.norm(dim=0))).to(like)


def operator(op: Any) -> tuple[Multiply, int, Tensor]:
    """A symmetric operator as a function of (n, q), its order, and an empty tensor of its dtype.

    Args:
        op: a tensor or an array, or an object with `shape`, `dtype`, `device` and `@`, such as the
            operators of curvlinops and linear_operator.

    Raises:
        TypeError: op has no `shape` or no `@`; a tensor or an array does not hold real numbers.
        ValueError: op is not square; a tensor or an array is not finite.
    """
    if isinstance(op, Tensor | np.ndarray):
        op = checks.real("op", op)
    if not hasattr(op, "shape") or not hasattr(op, "__matmul__"):
        raise TypeError(
            f"op must be a tensor or an operator with shape, dtype and @, got {type(op).__name__}"
        )
    shape = tuple(op.shape)
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] < 1:
        raise ValueError(f"op must be square, (n, n) with n ≥ 1, got shape {shape}")
    device = getattr(op, "device", torch.device("cpu"))
    like = torch.empty(0, dtype=getattr(op, "dtype", torch.float64), device=device)

    def multiply(v: Tensor) -> Tensor:
        return op @ v

    if isinstance(op, Tensor):
        return partial(product, op), shape[0], like
    return multiply, shape[0], like

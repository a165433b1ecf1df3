"""Differences and distances between two sets of inputs, computed once for each set of columns."""

from __future__ import annotations

import torch
from torch import Tensor

from bayesgen.covariance.distances import scaled_squared_distances, squared_distances

# Largest number of squared differences that are kept for all columns together.
_KEPT = 2**23


class Pairs:
    """All pairs of rows of two sets of inputs, with the distances that kernels use.

    Distances are computed when a kernel first asks for them and are then kept.

    Args:
        x1: inputs, (m, d).
        x2: inputs, (n, d), or None for x1.

    Example:
        >>> pairs = Pairs(torch.tensor([[0.0], [3.0]]))
        >>> pairs.distances((0,))
        tensor([[0., 3.],
                [3., 0.]])
    """

    def __init__(self, x1: Tensor, x2: Tensor | None = None) -> None:
        self.x1, self.x2 = x1, x1 if x2 is None else x2
        self._same = x2 is None
        self._kept: dict[tuple[str, tuple[int, ...]], Tensor] = {}
        self._whole: Pairs | None = None
        self._rows = self._columns_of = slice(None)

    def block(self, rows: slice, first: int = 0) -> Pairs:
        """The pairs of some rows of x1 with the rows of x2 from one on.

        Distances are taken from this object.
        """
        part = Pairs(self.x1[rows], self.x2[first:])
        part._whole, part._rows, part._columns_of = self, rows, slice(first, None)
        return part

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (m, n) of covariances of these pairs."""
        return len(self.x1), len(self.x2)

    def products(self, columns: tuple[int, ...], weights: Tensor | None = None) -> Tensor:
        """Inner products Σ_c w_c x1ᵢ_c x2ⱼ_c over some columns, (..., m, n).

        Args:
            columns: columns of the inputs.
            weights: weights w (..., 1, len(columns)) or (..., 1, 1), or None for 1. Differentiable.
        """
        left = self.left(columns) if weights is None else self.left(columns) * weights
        return left @ self.right(columns).mT

    def entries(self, column: int, table: Tensor) -> Tensor:
        """Entries table[x1ᵢ, x2ⱼ] for a column of whole numbers, (..., m, n).

        Args:
            column: column of the inputs.
            table: values (..., T, T). Differentiable.
        """
        left, right = (
            torch.nn.functional.one_hot(x[:, column].long(), table.shape[-1]).to(table)
            for x in (self.x1, self.x2)
        )
        return left @ table @ right.mT

    def left(self, columns: tuple[int, ...]) -> Tensor:
        """Columns of x1, (m, len(columns))."""
        return self._columns(self.x1, columns)

    def right(self, columns: tuple[int, ...]) -> Tensor:
        """Columns of x2, (n, len(columns))."""
        return self._columns(self.x2, columns)

    def squares(self, columns: tuple[int, ...]) -> Tensor:
        """Squared distances over some columns, (m, n)."""
        return self._get("squares", columns)

    def distances(self, columns: tuple[int, ...]) -> Tensor:
        """Distances over some columns, (m, n)."""
        return self._get("distances", columns)

    def differences(self, column: int) -> Tensor:
        """Differences x1ᵢ − x2ⱼ of one column, (m, n)."""
        return self._get("differences", (column,))

    def scaled_squares(self, columns: tuple[int, ...], lengthscale: Tensor) -> Tensor:
        """Squared distances of inputs divided by a length-scale per column, (..., m, n).

        Differentiable in the length-scales (..., 1, len(columns)).
        """
        result = scaled_squared_distances(self.left(columns), self.right(columns), lengthscale)
        if not self._symmetric:
            return result
        # A point has distance 0 from itself, also where its squares overflow.
        own = torch.zeros(result.shape[-2:], dtype=torch.bool, device=result.device)
        own.diagonal((self._rows.start or 0) - (self._columns_of.start or 0)).fill_(True)
        return result.masked_fill(own, 0.0)

    @property
    def _symmetric(self) -> bool:
        return self._same if self._whole is None else self._whole._symmetric

    def _columns(self, x: Tensor, columns: tuple[int, ...]) -> Tensor:
        return x if columns == tuple(range(x.shape[1])) else x[:, list(columns)]

    def _get(self, what: str, columns: tuple[int, ...]) -> Tensor:
        if self._whole is not None:
            return self._whole._get(what, columns)[self._rows, self._columns_of]
        key = (what, columns)
        if key not in self._kept:
            self._kept[key] = self._compute(what, columns)
        return self._kept[key]

    def _compute(self, what: str, columns: tuple[int, ...]) -> Tensor:
        if what == "distances":
            return self.squares(columns).sqrt()
        if what == "differences":
            return self.left(columns) - self.right(columns).mT
        other = None if self._same else self.right(columns)
        return squared_distances(self.left(columns), other)


class LowerPairs(Pairs):
    """The pairs on and below the diagonal of one set of inputs, as one row of n(n + 1)/2 pairs.

    Kernels evaluate half as many covariances as for all pairs; `unpack` makes matrices of them.

    Args:
        x: inputs, (n, d).

    Example:
        >>> LowerPairs(torch.tensor([[0.0], [3.0]])).distances((0,))
        tensor([[0., 3., 0.]])
    """

    def __init__(self, x: Tensor) -> None:
        super().__init__(x)
        n = len(x)
        i, j = torch.tril_indices(n, n, device=x.device)
        self.index = i * n + j
        self._by_column: dict[tuple[int, ...], Tensor] = {}
        self._twice = torch.where(i == j, 1.0, 2.0).to(x.dtype)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (1, n(n + 1)/2) of covariances of these pairs."""
        return 1, len(self.index)

    def products(self, columns: tuple[int, ...], weights: Tensor | None = None) -> Tensor:
        """Inner products over some columns; see `Pairs.products`."""
        return self._packed(super().products(columns, weights))

    def entries(self, column: int, table: Tensor) -> Tensor:
        """Entries of a table; see `Pairs.entries`."""
        return self._packed(super().entries(column, table))

    def scaled_squares(self, columns: tuple[int, ...], lengthscale: Tensor) -> Tensor:
        """Squared distances in units of the length-scales; see `Pairs.scaled_squares`.

        They are one matrix product of the inverse squared length-scales and the squared differences
        of each column, which are kept where they need not much memory.
        """
        if len(columns) * len(self.index) > _KEPT:
            return self._packed(super().scaled_squares(columns, lengthscale))
        if columns not in self._by_column:
            each = [self.differences(c).square() for c in columns]
            self._by_column[columns] = torch.cat(each)
        return lengthscale**-2 @ self._by_column[columns]

    def unpack(self, values: Tensor) -> Tensor:
        """Values (..., 1, n(n + 1)/2) as matrices (..., n, n) with zeros above the diagonal."""
        n = len(self.x1)
        result = values.new_zeros(*values.shape[:-2], n * n)
        result[..., self.index] = values[..., 0, :]
        return result.reshape(*values.shape[:-2], n, n)

    def pack(self, weights: Tensor) -> Tensor:
        """Symmetric weights (..., n, n) as weights of the pairs, (..., 1, n(n + 1)/2)."""
        return self._packed(weights) * self._twice

    def _packed(self, matrices: Tensor) -> Tensor:
        return matrices.flatten(-2)[..., None, self.index]

    def _compute(self, what: str, columns: tuple[int, ...]) -> Tensor:
        if what == "distances":
            return self.squares(columns).sqrt()
        return self._packed(super()._compute(what, columns))

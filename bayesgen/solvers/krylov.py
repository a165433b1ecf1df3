"""Block Lanczos: one Krylov space for hundreds of right-hand sides.

Every product multiplies the operator with a whole block, and every right-hand side is projected on
the space spanned by all of them. With hundreds of columns this takes a few steps, where conjugate
gradients on each column take dozens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from bayesgen._internal import files
from bayesgen.solvers.eigen import eigh

# A direction is dropped if its singular value is below this many times a column's rounding error.
_NOISE = 32.0
# Number of columns above which a matrix product runs at full speed.
_WIDE = 128

Multiply = Callable[[Tensor], Tensor]


@dataclass
class State:
    """State of a block Lanczos run.

    Attributes:
        basis: orthonormal blocks Q₁, Q₂, …, (n, bⱼ) each.
        columns: (Q₁, …, Qⱼ)ᵀAQⱼ, (b₁ + … + bⱼ, bⱼ), float64. Entries outside the band, which are
            rounding errors, are kept, so that T is the Rayleigh quotient of the space in any dtype.
        out: Bⱼ of Qⱼ₊₁Bⱼ = AQⱼ − …, (bⱼ₊₁, bⱼ), float64, for the last block.
        dropped: sum of squared singular values of the directions that were dropped, (1,).
        start: R of start = Q₁R, (b₁, q), float64.
        ahead: the next block, (n, b); it has no columns where the space is invariant.
    """

    basis: list[Tensor]
    columns: list[Tensor]
    out: Tensor
    dropped: Tensor
    start: Tensor
    ahead: Tensor

    @property
    def order(self) -> int:
        """Dimension m of the space so far."""
        return sum(block.shape[1] for block in self.basis)

    def matrix(self) -> Tensor:
        """Rayleigh quotient T = QᵀAQ, (m, m)."""
        T = self.start.new_zeros(self.order, self.order)
        at = 0
        for column in self.columns:
            here = slice(at, at + column.shape[1])
            T[: here.stop, here], T[here, : here.stop] = column, column.mT
            at = here.stop
        return T


@dataclass(frozen=True)
class Krylov:
    """A symmetric operator restricted to a block Krylov space: A ≈ QTQᵀ.

    Attributes:
        basis: Q, (n, m), orthonormal.
        values: Ritz values, eigenvalues of T, (m,), float64, ascending.
        vectors: eigenvectors of T, (m, m), float64.
        start: coordinates of the starting columns, Qᵀ·start, (b, q); further rows are zero.
        out: the matrix B of the block that leads out of the space, (b', b), float64.
        dropped: Frobenius norm of the directions that were dropped.
        steps: number of blocks of the basis.
        ahead: the next block, (n, b').
    """

    basis: Tensor
    values: Tensor
    vectors: Tensor
    start: Tensor
    out: Tensor
    dropped: float
    steps: int
    ahead: Tensor

    def coordinates(self) -> Tensor:
        """Coordinates of the starting columns along the Ritz vectors, (m, q), float64."""
        return self.vectors[: len(self.start)].mT @ self.start

    def residuals(self) -> Tensor:
        """Residual ‖Av − θv‖ of each Ritz pair, (m,); an eigenvalue lies within it of θ."""
        return (self.out @ self.vectors[-self.out.shape[1] :]).norm(dim=0)

    def outside(self, coordinates: Tensor) -> Tensor:
        """Part of AV outside the space, (b', k), for V given by coordinates in the Ritz basis.

        The rows are coordinates in the next block.
        """
        return self.out @ (self.vectors[-self.out.shape[1] :] @ coordinates)

    def ritz(self) -> Tensor:
        """Ritz vectors as columns, (n, m), in the dtype of the basis."""
        return self.basis @ self.vectors.to(self.basis)

    def before(self) -> Krylov | None:
        """The space one block smaller, or None for the first block."""
        T = (self.vectors * self.values) @ self.vectors.mT
        m = len(T) - self.out.shape[1]
        if m < len(self.start):
            return None
        values, vectors = eigh(0.5 * (T[:m, :m] + T[:m, :m].mT))
        return replace(
            self,
            basis=self.basis[:, :m],
            values=values,
            vectors=vectors,
            out=T[m:, :m],
            steps=self.steps - 1,
            ahead=self.basis[:, m:],
        )

    def radau(self, end: float) -> tuple[Tensor, Tensor]:
        """Nodes and vectors of block Gauss–Radau quadrature with a node at `end` ≤ λ_min.

        The rule is that of T extended by one block such that `end` is an eigenvalue. For
        f(λ) = 1/(λ + ρ), Gauss quadrature bounds vᵀf(A)v from below and this rule bounds it from
        above; for log(λ + ρ) it is the other way round.

        Returns:
            Nodes (m + b',), and the first m rows of the eigenvectors, (m, m + b').

        Source: Golub & Meurant (2010), sections 6.2 and 6.5.
        """
        m, more = len(self.values), len(self.out)
        if not more:
            return self.values, self.vectors
        lifted = self.out @ self.vectors[-self.out.shape[1] :]
        floor = torch.finfo(self.values.dtype).eps * self.values.abs().max()
        inner = (lifted / (self.values - end).clamp(min=floor)) @ lifted.mT
        T = self.values.new_zeros(m + more, m + more)
        T.diagonal()[:m] = self.values
        T[m:, :m], T[:m, m:] = lifted, lifted.mT
        T[m:, m:] = 0.5 * (inner + inner.mT)
        T[m:, m:].diagonal().add_(end)
        nodes, vectors = eigh(T)
        return nodes, self.vectors @ vectors[:m]


def block_lanczos(
    multiply: Multiply,
    start: Tensor,
    most: int,
    *,
    enough: Callable[[Krylov], bool] | None = None,
    look_every: int = 4,
    folder: Path | None = None,
    mark: str = "",
    progress: Callable[[int], None] | None = None,
) -> Krylov:
    """Block Krylov space of a symmetric operator from q starting columns.

    Each new block is orthogonalised twice against the whole basis. Columns that already lie in the
    space are dropped, so blocks may become narrower.

    Args:
        multiply: function V (n, b) → AV.
        start: starting columns, (n, q).
        most: largest number of steps.
        enough: called with the space every `look_every` steps; True stops the run.
        look_every: number of steps between calls of `enough`.
        folder: where each finished block is written, so that an interrupted run can continue; None
            writes nothing.
        mark: label of the run; blocks in the folder are used only if they carry the same label.
        progress: called with the number of steps done.

    Source: Golub & Van Loan (2013), section 10.3.6; Golub & Meurant (2010), section 4.6.
    """
    store = None if folder is None else _Store(folder, mark)
    state = None if store is None else store.load(start)
    if state is None:
        first, R, dropped = _orthonormal(start)
        state = State([], [], R[:0, :0], torch.zeros_like(dropped), R, first)
        if store is not None:
            store.begin(state)
    while len(state.basis) < most and state.ahead.shape[1]:
        _step(multiply, state)
        if store is not None:
            store.add(state)
        done = len(state.basis)
        if progress is not None:
            progress(done)
        if enough is not None and done % look_every == 0 and done < most:
            space = _known(state)
            if enough(space):
                return space
    return _known(state)


def _step(multiply: Multiply, state: State) -> None:
    Q = state.ahead
    W = multiply(Q)
    noise = W.double().square().sum(0).max().sqrt() * torch.finfo(W.dtype).eps
    state.basis.append(Q)
    wide = list(_joined(state.basis))
    found = [W.new_zeros(block.shape[1], Q.shape[1]).double() for block in wide]
    for _ in range(2):  # two passes suffice (Kahan)
        for block, total in zip(wide, found, strict=True):
            along = block.mT @ W
            W = W - block @ along
            total += along.double()
    column = torch.cat(found)
    own = column[-Q.shape[1] :]
    own.copy_(0.5 * (own + own.mT))
    state.columns.append(column)
    ahead, B, dropped = _orthonormal(W, noise)
    for block in wide:  # scaling small columns up amplifies rounding
        ahead = ahead - block @ (block.mT @ ahead)
    state.ahead, R = torch.linalg.qr(ahead)
    state.out, state.dropped = R.double() @ B, state.dropped + dropped


def _joined(basis: list[Tensor]) -> Iterator[Tensor]:
    """Join narrow blocks, in order, because products with few columns are slow."""
    waiting: list[Tensor] = []
    for block in basis:
        waiting.append(block)
        if sum(b.shape[1] for b in waiting) >= _WIDE:
            yield torch.cat(waiting, 1) if len(waiting) > 1 else block
            waiting = []
    if waiting:
        yield torch.cat(waiting, 1) if len(waiting) > 1 else waiting[0]


def _orthonormal(W: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Factor W = QB with Q orthonormal, leaving out directions below the rounding level.

    Args:
        W: block of columns, (n, b).
        noise: size of the rounding error of a column; None derives it from W.

    Returns:
        Q, B, and the sum of the squared singular values left out, (1,).
    """
    Q, R = torch.linalg.qr(W)
    left, singular, right = torch.linalg.svd(R.double(), full_matrices=False)
    if noise is None:
        noise = singular[0] * torch.finfo(W.dtype).eps
    keep = singular > _NOISE * noise
    B = singular[keep, None] * right[keep]
    dropped = singular[~keep].square().sum().reshape(1)
    return Q @ left[:, keep].to(Q), B, dropped


def _known(state: State) -> Krylov:
    values, vectors = eigh(state.matrix())
    dropped = float(state.dropped) ** 0.5
    steps = len(state.basis)
    basis = torch.cat(state.basis, 1)
    return Krylov(basis, values, vectors, state.start, state.out, dropped, steps, state.ahead)


class _Store:
    """Finished blocks on disk, one file each; a file appears only when it is complete."""

    def __init__(self, folder: Path, mark: str) -> None:
        self.folder, self.mark = folder, mark
        folder.mkdir(parents=True, exist_ok=True)

    def begin(self, state: State) -> None:
        for old in self._files():
            old.unlink()
        self._write(0, {"start": state.start, "ahead": state.ahead})

    def add(self, state: State) -> None:
        self._write(
            len(state.basis),
            {
                "column": state.columns[-1],
                "out": state.out,
                "dropped": state.dropped,
                "ahead": state.ahead,
            },
        )

    def load(self, start: Tensor) -> State | None:
        """State from the complete files in the folder, or None where there are none to use."""
        state: State | None = None
        for kept in self._read():
            if state is None:
                if kept["ahead"].shape[0] != len(start) or kept["ahead"].dtype != start.dtype:
                    return None
                R = kept["start"]
                state = State([], [], R[:0, :0], R.new_zeros(1), R, kept["ahead"].to(start))
                continue
            state.basis.append(state.ahead)
            state.columns.append(kept["column"])
            state.out, state.dropped = kept["out"], kept["dropped"]
            state.ahead = kept["ahead"].to(start)
        for old in self._files()[0 if state is None else len(state.basis) + 1 :]:
            old.unlink()
        return state

    def _read(self) -> Iterator[dict[str, Tensor]]:
        number = 0
        while (path := self._path(number)).exists():
            kept = files.saved(path)  # None for an incomplete file, which is recomputed
            if kept is None or kept.pop("mark") != self.mark:
                return
            yield kept
            number += 1

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("block *.pt"))

    def _path(self, number: int) -> Path:
        return self.folder / f"block {number:04d}.pt"

    def _write(self, number: int, parts: dict[str, Tensor]) -> None:
        state = {"mark": self.mark, **{k: v.cpu() for k, v in parts.items()}}
        files.write(self._path(number), lambda path: torch.save(state, path))

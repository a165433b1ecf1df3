"""A large Gram matrix in tiles: kept in memory, kept on disk, or recomputed for each product."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bayesgen._internal import checks, files
from bayesgen._internal.progress import Progress
from bayesgen.covariance.gram import KernelGram
from bayesgen.solvers.matmul import product
from bayesgen.spectrum.control_variates import of_rows

STORAGE = ("memory", "disk", "none")
# Rows of a tile; a product's temporary has this many rows and n columns.
_ROWS = 2048


class TiledGram:
    """K(θ) of a kernel on its inputs as an operator, computed in tiles of rows.

    Tiles are computed on and above the diagonal and mirrored, so that K is exactly symmetric.

    Args:
        gram: kernel on the inputs; K has the dtype of the inputs.
        theta: the kernel's parameters.
        storage: "memory"; "disk" for a file of n² numbers, which an interrupted run continues; or
            "none", which recomputes the tiles for every product.
        folder: folder of the file, needed with "disk".
        mark: label of the file; a file in the folder is continued only if it has the same label.
        progress: called as progress(done, expected, what) after each tile.

    Raises:
        ValueError: the storage is unknown; "disk" without a folder or with inputs not on a CPU.
        OSError: the disk is full; finished tiles are kept.

    Example:
        >>> import gpytorch
        >>> from bayesgen.covariance.gram import gram
        >>> x = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]
        >>> tiles = TiledGram(gram(gpytorch.kernels.RBFKernel(), x), torch.zeros(1).double())
        >>> (tiles @ torch.ones(5, 1, dtype=torch.float64)).shape
        torch.Size([5, 1])
    """

    def __init__(
        self,
        gram: KernelGram,
        theta: Tensor,
        storage: str = "memory",
        *,
        folder: Path | None = None,
        mark: str = "",
        progress: Progress | None = None,
    ) -> None:
        checks.one_of("storage", storage, STORAGE)
        if storage == "disk" and folder is None:
            raise ValueError('folder must be given with storage="disk"')
        if storage == "disk" and gram.x.device.type != "cpu":
            raise ValueError(f'storage must not be "disk" on {gram.x.device}: a CPU reads the file')
        self.gram, self.theta = gram, theta
        self.shape = torch.Size((len(gram.x), len(gram.x)))
        self.dtype, self.device = gram.x.dtype, gram.x.device
        self.matrix: Tensor | None = None
        self._moments: tuple[float, float] | None = None
        if storage == "memory":
            self.matrix = torch.empty(self.shape, dtype=self.dtype, device=self.device)
            self._fill(self.matrix, set(), None, progress)
        elif folder is not None and storage == "disk":
            self.matrix = self._on_disk(folder, mark, progress)

    def __matmul__(self, v: Tensor) -> Tensor:
        """Product K v, (n, q)."""
        if self.matrix is not None:
            return product(self.matrix, v)
        total = torch.zeros_like(v)
        for start, tile in self._counted():
            add(total, start, tile, v)
        return total

    def moments(self) -> tuple[float, float]:
        """Moments tr K and ‖K‖²_F.

        They take one pass over K, or none if a product has already recomputed the tiles.
        """
        if self._moments is None and self.matrix is not None:
            self._moments = of_rows(self.matrix, 0)
        if self._moments is None:
            for _ in self._counted():
                pass
        assert self._moments is not None
        return self._moments

    def _counted(self) -> Iterator[tuple[int, Tensor]]:
        """All tiles; after the last one, the moments are stored."""
        known, trace, squares = self._moments, 0.0, 0.0
        for start, tile in self.tiles():
            if known is None:
                own = of_rows(tile[:, : len(tile)], 0)
                trace += own[0]
                squares += 2 * of_rows(tile, 0)[1] - own[1]
            yield start, tile
        self._moments = known or (trace, squares)

    def tiles(self) -> Iterator[tuple[int, Tensor]]:
        """Recompute the tiles: rows of K from their diagonal on, and the index of the first row."""
        for start in range(0, len(self.gram.x), _ROWS):
            yield start, self._tile(start)

    def _tile(self, start: int) -> Tensor:
        """Rows of K from `start`, restricted to the columns from `start` on."""
        tile = rows(self.gram, self.theta, slice(start, start + _ROWS), start)
        corner = tile[:, : len(tile)]
        corner.copy_(0.5 * (corner + corner.mT))
        return tile

    def _fill(
        self,
        K: Tensor,
        done: set[int],
        keep: Callable[[int], None] | None,
        progress: Progress | None,
    ) -> None:
        n = len(K)
        starts = range(0, n, _ROWS)
        for number, start in enumerate(starts):
            if number in done:
                continue
            stop = min(start + _ROWS, n)
            tile = self._tile(start)
            K[start:stop, start:] = tile
            K[stop:, start:stop] = tile[:, stop - start :].mT
            if keep is not None:
                keep(number)
            if progress is not None:
                progress(number + 1, len(starts), "Gram matrix")

    def _on_disk(self, folder: Path, mark: str, progress: Progress | None) -> Tensor:
        folder.mkdir(parents=True, exist_ok=True)
        path, ledger = folder / "gram.bin", folder / "gram.json"
        n, kind = len(self.gram.x), str(self.dtype).removeprefix("torch.")
        told = {"mark": mark, "n": n, "dtype": kind, "rows": _ROWS}
        done = _finished(path, ledger, told)
        _reserve(path, n * n * self.dtype.itemsize)
        shared = np.memmap(path, dtype=kind, mode="r+", shape=(n, n))
        K = torch.from_numpy(shared)

        def enter(page: Path) -> None:
            page.write_text(json.dumps(told | {"done": sorted(done)}))

        def keep(number: int) -> None:
            shared.flush()
            done.add(number)
            files.write(ledger, enter)

        self._fill(K, set(done), keep, progress)
        return K


def rows(gram: KernelGram, theta: Tensor, which: slice, first: int = 0) -> Tensor:
    """Rows of K(θ), restricted to the columns from `first` on, with an exact diagonal."""
    some = gram.x[which]
    part = gram.between(theta, some, gram.x[first:])
    own = part[:, which.start - first : which.start - first + len(some)]
    own.diagonal().copy_(gram.diagonal(theta, some))
    return part


def add(total: Tensor, start: int, tile: Tensor, v: Tensor) -> None:
    """Add to `total` what a tile and its mirror image contribute to Kv."""
    stop = start + len(tile)
    total[start:stop] += tile @ v[start:]
    total[stop:] += tile[:, stop - start :].mT @ v[start:stop]


def _finished(path: Path, ledger: Path, told: dict[str, object]) -> set[int]:
    """Indices of the tiles in a file that can be reused."""
    try:
        found = json.loads(ledger.read_text())
    except (OSError, ValueError):
        return set()
    done = set(found.pop("done", []))
    return done if found == told and path.exists() else set()


def _reserve(path: Path, size: int) -> None:
    """Allocate the whole file at once, so that a full disk is an error here, not a crash later."""
    with open(path, "r+b" if path.exists() else "w+b") as file:
        if path.stat().st_size == size:
            return
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as err:
            raise OSError(
                f"{path} needs {size / 1e9:,.1f} GB, but its disk has less free: {err.strerror}"
            ) from err

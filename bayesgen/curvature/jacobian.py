"""The observations of a curvature, and rows of the network's Jacobian at them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bayesgen.curvature.jacobian_rows import Part
from bayesgen.curvature.parameters import Weights
from bayesgen.curvature.row_paths import rows


@dataclass(frozen=True)
class Sample:
    """Observations with the likelihood curvature Λᵢ at each of them.

    Attributes:
        x: inputs, (n, …), a tensor or `bayesgen.networks.inputs.Inputs`.
        values: eigenvalues w > 0 of each Λᵢ = V diag(w) Vᵀ, (n, K).
        vectors: eigenvectors V, (n, C, K).
        batch: number of observations processed at a time.
        memory: bytes that rows of the Jacobian may take.
        coefficients: c with Σ (Λ^½J)ᵀc = `gradient`, (n, K); None if unknown. See
            `bayesgen.curvature.gradient_check`.
        gradient: the gradient of the log likelihood, (P,), float64.
        outputs: outputs of the network, (n, C); None if unknown.
        kept: which rows of Λ^½J are computed, (n, K) of bool; None for all. See
            `bayesgen.curvature.kept_rows`.
    """

    x: Any
    values: Tensor
    vectors: Tensor
    batch: int
    memory: float
    coefficients: Tensor | None = None
    gradient: Tensor | None = None
    outputs: Tensor | None = None
    kept: Tensor | None = None

    @property
    def count(self) -> int:
        """Number of rows of Λ^½J that are computed, nK where all are."""
        return self.values.numel() if self.kept is None else int(self.kept.sum())

    def part(self, some: slice | Tensor) -> Sample:
        """Some of the observations, without the gradient."""
        kept = None if self.kept is None else self.kept[some]
        return replace(
            self,
            x=self.x[some],
            values=self.values[some],
            vectors=self.vectors[some],
            coefficients=None,
            gradient=None,
            outputs=None,
            kept=kept,
        )

    def chosen(self, rows: Tensor) -> Tensor:
        """The computed ones of rows (n, K, …), (count, …)."""
        return rows.flatten(0, 1) if self.kept is None else rows[self.kept]


def chunks(weights: Weights, count: int, memory: float) -> Iterator[list[Part]]:
    """Lists of network parts; `count` Jacobian rows of each list fit into `memory` bytes."""
    largest = max(1, int(memory / (count * weights.theta.element_size())))
    chunk: list[Part] = []
    room = largest
    for leaf in weights.leaves:
        for part in Part(leaf).split(largest):
            size = len(part.index())
            if chunk and size > room:
                yield chunk
                chunk, room = [], largest
            chunk.append(part)
            room -= size
    yield chunk


def jacobian(weights: Weights, sample: Sample, parts: list[Part]) -> Tensor:
    """Columns of Λ^½J that belong to some parts, (nK, p), or those of its rows that are kept."""
    width = sum(len(part.index()) for part in parts)
    J = weights.theta.new_empty(sample.count, width)
    down = 0
    for start in range(0, len(sample.values), sample.batch):
        rows_of = slice(start, start + sample.batch)
        kept = None if sample.kept is None else sample.kept[rows_of]
        vectors = sample.vectors[rows_of] * sample.values[rows_of].sqrt()[:, None]
        along = 0
        for _, found in rows(weights, sample.x[rows_of], vectors, parts):
            own = found.flatten(0, 1) if kept is None else found[kept]
            J[down : down + len(own), along : along + own.shape[-1]] = own
            along += own.shape[-1]
        down += len(own)
    return J


def jacobians(weights: Weights, x: Any, outputs: int, batch: int) -> Iterator[Tensor]:
    """The whole Jacobian for a batch of observations at a time, (b, C, P), float64."""
    parts = [Part(leaf) for leaf in weights.leaves]
    order = torch.cat([part.index() for part in parts])
    eye = torch.eye(outputs, dtype=weights.theta.dtype, device=weights.theta.device)
    for rows_of in x.split(batch):
        vectors = eye.expand(len(rows_of), outputs, outputs)
        J = weights.theta.new_empty(len(rows_of), outputs, weights.count)
        J[..., order] = torch.cat([r for _, r in rows(weights, rows_of, vectors, parts)], -1)
        yield J.double()


def weighted_rows(weights: Weights, sample: Sample) -> Iterator[Tensor]:
    """Rows of Λ^½J for a batch of observations at a time, (bK, P)."""
    parts = [Part(leaf) for leaf in weights.leaves]
    for start in range(0, len(sample.x), sample.batch):
        some = slice(start, start + sample.batch)
        yield jacobian(weights, sample.part(some), parts)

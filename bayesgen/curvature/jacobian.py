"""Observations as their curvature sees them, and the Jacobian's rows there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bayesgen.curvature.jacobian_rows import Part, rows
from bayesgen.curvature.parameters import Weights


@dataclass(frozen=True)
class Sample:
    """Observations as their curvature sees them.

    Attributes:
        x: inputs, (n, …).
        values: w > 0 of each Λᵢ = V diag(w) Vᵀ, (n, K).
        vectors: V, (n, C, K).
        batch: observations a pass.
        memory: bytes that rows of the Jacobian may take.
    """

    x: Tensor
    values: Tensor
    vectors: Tensor
    batch: int
    memory: float

    @property
    def count(self) -> int:
        """Rows of Λ^½J, nK."""
        return self.values.numel()


def chunks(weights: Weights, count: int, memory: float) -> Iterator[list[Part]]:
    """Parts of the network whose `count` rows fit into so many bytes together."""
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
    """Λ^½J at some columns, (nK, p)."""
    index = torch.cat([part.index() for part in parts])
    n, K = sample.values.shape
    J = weights.theta.new_empty(n, K, len(index))
    for start in range(0, n, sample.batch):
        rows_of = slice(start, start + sample.batch)
        at = 0
        for _, found in rows(weights, sample.x[rows_of], sample.vectors[rows_of], parts):
            J[rows_of, :, at : at + found.shape[-1]] = found
            at += found.shape[-1]
    J.mul_(sample.values.sqrt()[..., None])
    return J.reshape(n * K, -1)


def jacobians(weights: Weights, x: Tensor, outputs: int, batch: int) -> Iterator[Tensor]:
    """The whole Jacobian of some observations at a time, (b, C, P), float64."""
    parts = [Part(leaf) for leaf in weights.leaves]
    order = torch.cat([part.index() for part in parts])
    eye = torch.eye(outputs, dtype=x.dtype, device=x.device)
    for rows_of in x.split(batch):
        vectors = eye.expand(len(rows_of), outputs, outputs)
        J = x.new_empty(len(rows_of), outputs, weights.count)
        J[..., order] = torch.cat([r for _, r in rows(weights, rows_of, vectors, parts)], -1)
        yield J.double()


def weighted_rows(weights: Weights, sample: Sample) -> Iterator[Tensor]:
    """Λ^½J of some observations at a time, (bK, P)."""
    parts = [Part(leaf) for leaf in weights.leaves]
    for start in range(0, len(sample.x), sample.batch):
        some = slice(start, start + sample.batch)
        few = Sample(
            sample.x[some], sample.values[some], sample.vectors[some], sample.batch, sample.memory
        )
        yield jacobian(weights, few, parts)

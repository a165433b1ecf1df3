"""The observations of a curvature, and rows of the network's Jacobian at them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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
    """

    x: Any
    values: Tensor
    vectors: Tensor
    batch: int
    memory: float
    coefficients: Tensor | None = None
    gradient: Tensor | None = None
    outputs: Tensor | None = None

    @property
    def count(self) -> int:
        """Number of rows of Λ^½J, nK."""
        return self.values.numel()


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
    """Columns of Λ^½J that belong to some parts, (nK, p)."""
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
        few = Sample(
            sample.x[some], sample.values[some], sample.vectors[some], sample.batch, sample.memory
        )
        yield jacobian(weights, few, parts)

"""The GGN from the rows of Λ^½J that matter, with an estimate of what the others contribute.

Where a network fits its labels closely, the likelihood's curvature Λᵢ is nearly zero in most of its
eigendirections. The rows r of Λ^½J in these directions have small squared norms
k = r diag(α)⁻¹ rᵀ. If the rows D are left out of A = I + Λ^½J diag(α)⁻¹JᵀΛ^½, of which A_S remains,
then, with the matrix I + M that is the Schur complement of A_S,

    log|A| = log|A_S| + log|I + M|,    0 ≤ log|I + M| ≤ Σ_D log(1 + k)

by Hadamard's inequality. The last sum bounds the error of any choice of rows. It is far from tight,
because the rows left out lie largely in the span of those kept. For a random vector z of signs, the
row zᵀΛ^½J over D is one more row of the Gram matrix, and from a few such rows follow estimates of
t = tr M (Hutchinson 1990) and f = tr M². As (log(1 + μ))/μ is convex in μ, and μ − log(1 + μ) is
concave in μ²,

    (t²/f) log(1 + f/t) ≤ log|I + M| ≤ t − √f + log(1 + √f).

The middle of these bounds is taken. Half their distance and the standard error √(2f/m) of t, for m
vectors, are its error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bayesgen import verify
from bayesgen._internal.progress import Progress
from bayesgen.curvature.curvature import CurvatureTerms, PriorShape
from bayesgen.curvature.gradient_check import GradientCheck
from bayesgen.curvature.jacobian import Sample, chunks, jacobian
from bayesgen.curvature.jacobian_gram import add_gram, mirror
from bayesgen.curvature.jacobian_rows import Part
from bayesgen.curvature.parameters import Weights

# Number of observations whose rows give the norm below which rows are left out.
_PILOT = 32
# Number of rows in a block of the Gram matrix.
_BLOCK = 512
# Number m of random vectors.
_PROBES = 64


@dataclass(frozen=True)
class LeftOut:
    """What is known of the rows that are left out, at unit precision.

    Attributes:
        squares: their squared norms, (d,), float64.
        own: products of m random sums of these rows with each other, (m, m), float64.
        cross: products of the kept rows with these sums, (r, m), float64.
    """

    squares: Tensor
    own: Tensor
    cross: Tensor

    def bound(self, precision: Tensor) -> Tensor:
        """Largest possible log|I + M| at a prior precision (1,), in nats, ()."""
        return (self.squares / precision[0]).log1p().sum()

    def completed(
        self, terms: CurvatureTerms, inverse: Tensor, precision: Tensor
    ) -> CurvatureTerms:
        """Terms of all rows from those of the kept rows, of a single group.

        Args:
            terms: terms of the kept rows.
            inverse: A_S⁻¹, (r, r).
            precision: prior precision, (1,).
        """
        most, p = self.bound(precision), precision[0]
        solved = inverse @ self.cross / p
        T = (self.own - self.cross.mT @ solved) / p
        m = len(T)
        trace = T.diagonal().mean().clamp(min=torch.finfo(T.dtype).tiny)
        squares = (T.square().sum() - T.diagonal().square().sum()) / (m * (m - 1))
        squares = squares.clamp(min=trace.square() * torch.finfo(T.dtype).eps)
        low = trace.square() / squares * (squares / trace).log1p()
        high = trace - squares.sqrt() + squares.sqrt().log1p()
        value = (low + high) / 2
        error = (high - low).abs() / 2 + (2 * squares / m).sqrt()
        if not error < most / 2:
            value = error = most / 2
        # To first order, tr(I − A⁻¹) grows by tr M(I + K_S)⁻¹ where tr M is the log-determinant's.
        slope = (T.diagonal() - solved.square().sum(0)).mean().clamp(min=0)
        freedom = value * (slope / trace).clamp(max=1)
        return CurvatureTerms(
            terms.logdet + value, terms.effective_parameters + freedom, terms.error + error
        )


@dataclass(frozen=True)
class KeptRows:
    """The Gram matrix of the kept rows.

    Attributes:
        sample: the observations, with `Sample.kept`.
        gram: Λ^½JSJᵀΛ^½ at unit precision for the kept rows, (r, r).
        left: the other rows.
    """

    sample: Sample
    gram: Tensor
    left: LeftOut


def kept_rows(
    weights: Weights,
    sample: Sample,
    prior: PriorShape,
    precision: float,
    budget: float,
    progress: Progress | None = None,
) -> KeptRows:
    """Choose rows so that Σ_D log(1 + k) of the others is at most a budget, and their Gram matrix.

    A few random observations give the norm below which rows are left out. All rows are computed
    once, a batch of observations at a time, and their norms are measured. At least one row of each
    observation is kept. Where the kept rows do not fit into the memory, they are computed again, a
    few layers at a time.

    Args:
        weights: weights of the network.
        sample: the observations.
        prior: layout of the prior precisions, with one group.
        precision: the prior precision of the group.
        budget: largest Σ_D log(1 + k), in nats.
        progress: called as progress(done, expected, what) after each batch.

    Raises:
        RowsDifferError: the rows contradict the gradient of the sample.
    """
    least = _least(weights, sample, prior, precision, budget)
    check = GradientCheck(weights, sample)
    kept = torch.zeros_like(sample.values, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    sums = weights.theta.new_zeros(_PROBES, weights.count)
    pieces: list[Tensor] = []
    left, size, done, spent = [], 0, 0, 0.0
    for some, index, rows in _batches(weights, sample):
        check.add(index, rows, done)
        done += len(rows)
        squares = _scaled(rows, index, prior)
        chosen = _chosen(
            (squares / precision).log1p().reshape(-1, sample.values.shape[1]), least, budget - spent
        )
        kept[some] = chosen
        chosen = chosen.reshape(-1)
        spent += float((squares[~chosen] / precision).log1p().sum())
        left.append(squares[~chosen])
        signs = torch.randint(2, (_PROBES, len(left[-1])), generator=generator) * 2 - 1
        sums.addmm_(signs.to(rows), rows[~chosen])
        size += int(chosen.sum()) * rows.shape[1] * rows.element_size()
        if size <= sample.memory:
            pieces.append(rows[chosen])
        else:
            pieces.clear()
        if progress is not None:
            progress(done, sample.values.numel(), "curvature")
    check.settle()
    own = replace(sample, coefficients=None, gradient=None, kept=kept)
    made = _gram(pieces, sums) if pieces else _by_layers(weights, own, prior, sums)
    wide = sums.double()
    return KeptRows(own, made[0], LeftOut(torch.cat(left), wide @ wide.mT, made[1].double()))


def _batches(weights: Weights, sample: Sample) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Batches of observations, with the columns of θ and the rows of Λ^½J there, (bK, P)."""
    parts = [Part(leaf) for leaf in weights.leaves]
    index = torch.cat([part.index() for part in parts])
    for start in range(0, len(sample.values), sample.batch):
        some = slice(start, start + sample.batch)
        yield some, index, jacobian(weights, sample.part(some), parts)


def _scaled(rows: Tensor, index: Tensor, prior: PriorShape) -> Tensor:
    """Multiply rows (m, P) by base^−½, in place; their squared norms, (m,), float64."""
    rows.mul_(prior.base[index].rsqrt().to(rows))
    return torch.linalg.vector_norm(rows, dim=1).double().square()


def _least(
    weights: Weights, sample: Sample, prior: PriorShape, precision: float, budget: float
) -> float:
    """The log(1 + k) up to which rows of a few observations use up their share of the budget."""
    n = len(sample.values)
    few = verify.some_rows(n, _PILOT).to(sample.values.device)
    found = [_scaled(rows, index, prior) for _, index, rows in _batches(weights, sample.part(few))]
    value = (torch.cat(found) / precision).log1p().sort().values
    fits = int((value.cumsum(0) <= budget * len(few) / n).sum())
    return float(value[fits - 1]) if fits else 0.0


def _chosen(value: Tensor, least: float, budget: float) -> Tensor:
    """Which rows are kept, (b, K): those above a value, the largest of each observation, and those
    whose sum, from the smallest, would exceed the budget.
    """
    chosen = value > least
    chosen[torch.arange(len(value), device=value.device), value.argmax(1)] = True
    order = torch.where(chosen, torch.inf, value).reshape(-1).sort()
    out = order.indices[order.values.cumsum(0) <= budget]
    result = torch.ones_like(chosen).reshape(-1)
    result[out] = False
    return result.reshape(value.shape)


def _gram(pieces: list[Tensor], sums: Tensor) -> tuple[Tensor, Tensor]:
    """Gram matrix of rows that are given in pieces, and their products with some sums (m, P)."""
    blocks: list[list[Tensor]] = []
    counts: list[int] = []
    for piece in pieces:
        if not blocks or counts[-1] + len(piece) > _BLOCK:
            blocks.append([])
            counts.append(0)
        blocks[-1].append(piece)
        counts[-1] += len(piece)
    K = sums.new_empty(sum(counts), sum(counts))
    cross = [piece @ sums.mT for piece in pieces]
    start = 0
    for number, (own, count) in enumerate(zip(blocks, counts, strict=True)):
        rows, at = torch.cat(own), 0
        for other in (piece for block in blocks[: number + 1] for piece in block):
            K[start : start + count, at : at + len(other)] = rows @ other.mT
            at += len(other)
        start += count
    return _mirrored(K, counts), torch.cat(cross)


def _mirrored(K: Tensor, counts: list[int]) -> Tensor:
    """Copy the blocks below the diagonal to those above it, in place."""
    start = 0
    for count in counts:
        K[:start, start : start + count] = K[start : start + count, :start].mT
        start += count
    return K


def _by_layers(
    weights: Weights, sample: Sample, prior: PriorShape, sums: Tensor
) -> tuple[Tensor, Tensor]:
    """The same from rows that are computed for a few layers at a time."""
    K = sums.new_zeros(sample.count, sample.count)
    cross = sums.new_zeros(sample.count, len(sums))
    whole = [part.index() for part in map(Part, weights.leaves)]
    sums = sums[:, torch.cat(whole).argsort()]  # in the order of θ
    for parts in chunks(weights, sample.count, sample.memory):
        J = jacobian(weights, sample, parts)
        index = torch.cat([part.index() for part in parts])
        J.mul_(prior.base[index].rsqrt().to(J))
        add_gram(K, J)
        cross += J @ sums[:, index].mT
    return mirror(K), cross

"""Block-diagonal curvatures: Kronecker factors of each layer, or the diagonal alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn

from bayesgen import solvers
from bayesgen._internal.progress import Progress
from bayesgen.curvature.curvature import (
    Curvature,
    CurvatureTerms,
    PriorShape,
    spectral_terms,
    standard_normal,
)
from bayesgen.curvature.jacobian import Sample, jacobians
from bayesgen.curvature.jacobian_rows import Part, forward, layer_rows, windows
from bayesgen.curvature.parameters import Leaf, Weights
from bayesgen.solvers.quadrature import Measure
from bayesgen.spectrum.spectrum import Spectrum

# A layer without a Kronecker form has a full block up to so many parameters, else its diagonal.
_FULL = 1024
# Rounding, in eps, of squares of what came through many layers: two of them were measured.
_DEEP = 10


class Block(Protocol):
    """Curvature of some weights in its own eigenbasis."""

    @property
    def columns(self) -> slice:
        """Of θ, p of them."""

    @property
    def values(self) -> Tensor:
        """Eigenvalues, (p,)."""

    @property
    def turned(self) -> bool:
        """Whether the eigenbasis is not that of the weights: then they share one precision."""

    def rounding(self, alpha: Tensor, eps: float) -> Tensor:
        """What rounding of H may do to log|H + α|, nats, (): first order, α of each weight, (p,).

        |tr M δH| ≤ ‖M‖_F ‖δH‖_F for M = (H + α)⁻¹, and ‖δH‖_F = √p · eps · ‖H‖_F.
        """

    def product(self, row: Tensor) -> Tensor:
        """H times a vector, (p,)."""

    def rotate(self, rows: Tensor) -> Tensor:
        """Coordinates (..., p) in the eigenbasis."""

    def back(self, coordinates: Tensor) -> Tensor:
        """And back, (..., p)."""


@dataclass(frozen=True)
class Diagonal:
    """No basis but the weights' own."""

    columns: slice
    values: Tensor
    turned: bool = False

    def rounding(self, alpha: Tensor, eps: float) -> Tensor:
        """See `Block`."""
        return _DEEP * eps * (self.values / (self.values + alpha)).sum()

    def product(self, row: Tensor) -> Tensor:
        """See `Block`."""
        return self.values * row

    def rotate(self, rows: Tensor) -> Tensor:
        """See `Block`."""
        return rows

    def back(self, coordinates: Tensor) -> Tensor:
        """See `Block`."""
        return coordinates


class Full:
    """A dense block, (p, p); its eigenvectors are found when they are wanted."""

    turned = True

    def __init__(self, columns: slice, matrix: Tensor) -> None:
        self.columns, self.matrix = columns, matrix

    @cached_property
    def values(self) -> Tensor:
        """See `Block`."""
        return solvers.eigvalsh(self.matrix).clamp(min=0)

    @cached_property
    def vectors(self) -> Tensor:
        """In the order of the values."""
        return solvers.eigh(self.matrix)[1]

    def rounding(self, alpha: Tensor, eps: float) -> Tensor:
        """See `Block`."""
        return _effect(self, 1 / (self.values + alpha), eps)

    def product(self, row: Tensor) -> Tensor:
        """See `Block`."""
        return self.matrix @ row

    def rotate(self, rows: Tensor) -> Tensor:
        """See `Block`."""
        return rows @ self.vectors

    def back(self, coordinates: Tensor) -> Tensor:
        """See `Block`."""
        return coordinates @ self.vectors.mT


class Kronecker:
    """G ⊗ A, by the eigenvalues of both and, when they are wanted, their eigenvectors."""

    turned = True

    def __init__(self, columns: slice, left: Full, right: Full) -> None:
        self.columns, self.left, self.right = columns, left, right

    @cached_property
    def values(self) -> Tensor:
        """See `Block`."""
        return (self.left.values[:, None] * self.right.values).reshape(-1)

    def rounding(self, alpha: Tensor, eps: float) -> Tensor:
        """See `Block`: of either factor, the other as it is."""
        g, a = self.left.values, self.right.values
        inverse = self._wide(1 / (self.values + alpha))
        return _effect(self.left, inverse @ a, eps) + _effect(self.right, g @ inverse, eps)

    def _wide(self, rows: Tensor) -> Tensor:
        return rows.reshape(*rows.shape[:-1], len(self.left.matrix), len(self.right.matrix))

    def product(self, row: Tensor) -> Tensor:
        """See `Block`: vec(GWA)."""
        return (self.left.matrix @ self._wide(row) @ self.right.matrix).reshape(-1)

    def rotate(self, rows: Tensor) -> Tensor:
        """See `Block`: vec(U_GᵀWU_A)."""
        turned = self.left.vectors.mT @ self._wide(rows) @ self.right.vectors
        return turned.reshape(rows.shape)

    def back(self, coordinates: Tensor) -> Tensor:
        """See `Block`."""
        turned = self.left.vectors @ self._wide(coordinates) @ self.right.vectors.mT
        return turned.reshape(coordinates.shape)


class BlockDiagonal(Curvature):
    """H block by block; see `Curvature`.

    Args:
        weights: of the network.
        prior: the layout of the prior precisions; constant on every block that has a basis of its
            own.
        blocks: of H, which cover all weights.
        method: in words.
        outputs: C.
        batch: observations a pass.

    Raises:
        ValueError: prior precisions that differ within such a block.
    """

    def __init__(
        self,
        weights: Weights,
        prior: PriorShape,
        blocks: list[Block],
        method: str,
        *,
        outputs: int,
        batch: int,
    ) -> None:
        self.weights, self.prior, self.blocks, self.method = weights, prior, blocks, method
        self.outputs, self.batch = outputs, batch
        for block in blocks:
            if not block.turned:
                continue
            base, group = prior.base[block.columns], prior.group[block.columns]
            if not (base == base[0]).all() or not (group == group[0]).all():
                raise ValueError(
                    'prior precisions that differ within a layer want curvature "ggn" or "diag": '
                    "a layer's Kronecker factors share one"
                )
        if prior.count == 1:
            values = torch.cat([b.values / prior.base[b.columns] for b in blocks])
            measure = Measure(values, torch.ones_like(values))
            self.spectrum = Spectrum(measure, len(values), None, 0, method)

    def terms(self, precision: Tensor) -> CurvatureTerms:
        """See `Curvature.terms`."""
        alpha = self.prior.precision(precision).double()
        eps = torch.finfo(self.weights.theta.dtype).eps
        error = torch.stack([b.rounding(alpha[b.columns], eps) for b in self.blocks]).sum()
        if self.spectrum is not None:
            terms = spectral_terms(self.spectrum, precision)
            return terms._replace(error=terms.error + error)
        logdet, effective_parameters = alpha.new_zeros(()), alpha.new_zeros(self.prior.count)
        for block in self.blocks:
            ratio = block.values / alpha[block.columns]
            logdet = logdet + ratio.log1p().sum()
            effective_parameters.index_add_(0, self.prior.group[block.columns], ratio / (1 + ratio))
        return CurvatureTerms(logdet, effective_parameters, error)

    def covariance(self, x: Tensor, precision: Tensor) -> Tensor:
        """See `Curvature.covariance`."""
        alpha, found = self.prior.precision(precision).double(), []
        for J in jacobians(self.weights, x, self.outputs, self.batch):
            total = J.new_zeros(len(J), self.outputs, self.outputs)
            for block in self.blocks:
                half = block.rotate(J[..., block.columns])
                half = half * (block.values + alpha[block.columns]).rsqrt()
                total += half @ half.mT
            found.append(total)
        return torch.cat(found)

    def draw(self, count: int, precision: Tensor, generator: torch.Generator) -> Tensor:
        """See `Curvature.draw`."""
        alpha = self.prior.precision(precision).double()
        w = alpha.new_empty(count, self.weights.count)
        for block in self.blocks:
            z = standard_normal((count, len(block.values)), generator, alpha)
            w[:, block.columns] = block.back(z * (block.values + alpha[block.columns]).rsqrt())
        return w.to(self.weights.theta)

    def gain(self, gradient: Tensor, precision: Tensor) -> float:
        """See `Curvature.gain`."""
        alpha, total = self.prior.precision(precision).double(), 0.0
        for block in self.blocks:
            turned = block.rotate(gradient[block.columns]).square()
            total += float(0.5 * (turned / (block.values + alpha[block.columns])).sum())
        return total

    def least_gain(self, gradient: Tensor, precision: Tensor) -> float:
        """See `Curvature.least_gain`: gᵀB⁻¹g ≥ ‖g‖⁴/gᵀBg block by block, without eigenvectors."""
        alpha, total = self.prior.precision(precision).double(), 0.0
        for block in self.blocks:
            g = gradient[block.columns]
            size = g.square().sum()
            if size > 0:
                bent = g @ block.product(g) + (alpha[block.columns] * g.square()).sum()
                total += float(0.5 * size.square() / bent)
        return total


def diagonal(weights: Weights, sample: Sample, progress: Progress | None = None) -> list[Block]:
    """The diagonal of the exact GGN, Σ (Λ^½J)²."""
    total = torch.zeros(weights.count, dtype=torch.float64, device=sample.x.device)

    def add(leaf: Leaf, rows: Tensor) -> None:
        total[leaf.span] += rows.double().square().sum((0, 1))

    _each_layer(weights, sample, add, progress)
    return [Diagonal(slice(0, weights.count), total)]


def kronecker(weights: Weights, sample: Sample, progress: Progress | None = None) -> list[Block]:
    """KFAC-expand of the exact GGN: for each weight matrix G ⊗ A/(nT), for each bias G.

    A = Σ aaᵀ over observations and positions (T of them share a weight), G = Σ ggᵀ over those and
    the roots of Λ. Other layers (norms, scalars) have their exact block, or its diagonal.

    Source: Martens & Grosse (2015); Eschenhagen et al. (2023), section 3, as in curvlinops.
    """
    A: dict[str, Tensor] = {}
    G: dict[str, Tensor] = {}
    positions: dict[str, int] = {}
    rest: dict[str, Tensor] = {}
    factored = [leaf for leaf in weights.leaves if _factors(leaf.module)]
    plain = [leaf for leaf in weights.leaves if not _factors(leaf.module)]
    every = range(0, len(sample.x), sample.batch)
    for number, start in enumerate(every):
        some = slice(start, start + sample.batch)
        vectors = sample.vectors[some] * sample.values[some].sqrt()[:, None, :]
        passed = forward(weights, sample.x[some], weights.leaves)
        for leaf in factored:
            for inputs, _ in passed.calls[leaf.name]:
                found, count = _inputs(leaf.module, inputs)
                _add(A, leaf.name, found)
                positions[leaf.name] = positions.get(leaf.name, 0) + count
        others = []
        for gradients in passed.passes(vectors):
            for leaf in factored:
                for g in gradients[leaf.name]:
                    _add(G, leaf.name, _outputs(leaf.module, g.flatten(0, 1)))
            others.append({leaf.name: gradients[leaf.name] for leaf in plain})
        calls = passed.joined(others)
        for leaf in plain:
            rows = layer_rows(Part(leaf), calls[leaf.name], len(vectors), vectors)
            _add(rest, leaf.name, _own(leaf, rows.double()))
        if progress is not None:
            progress(number + 1, len(every), "curvature")
    blocks: list[Block] = []
    for leaf in weights.leaves:
        if _factors(leaf.module):
            left = Full(leaf.columns.get("bias", slice(0, 0)), G[leaf.name])
            if "weight" in leaf.columns:
                right = Full(slice(0, 0), A[leaf.name] / positions[leaf.name])
                blocks.append(Kronecker(leaf.columns["weight"], left, right))
            if "bias" in leaf.columns:
                blocks.append(left)
        elif rest[leaf.name].ndim == 2:
            blocks.append(Full(leaf.span, rest[leaf.name]))
        else:
            blocks.append(Diagonal(leaf.span, rest[leaf.name]))
    return blocks


def _factors(module: nn.Module) -> bool:
    """Whether a layer has a Kronecker form."""
    if type(module) is nn.Conv2d:
        return module.groups == 1 and module.padding_mode == "zeros"
    return type(module) is nn.Linear


def _inputs(module: nn.Module, inputs: Tensor) -> tuple[Tensor, int]:
    """Σ aaᵀ over what enters a layer, float64, and how many terms it has."""
    if type(module) is not nn.Conv2d:
        a = inputs.reshape(-1, inputs.shape[-1])
        return (a.mT @ a).double(), len(a)
    seen = windows(module, inputs).flatten(0, 1)
    (kh, kw), channels = module.kernel_size, inputs.shape[1]
    total = (seen.mT @ seen).double().reshape(kh, kw, channels, kh, kw, channels)
    side = kh * kw * channels
    return total.permute(2, 0, 1, 5, 3, 4).reshape(side, side), len(seen)


def _outputs(module: nn.Module, gradients: Tensor) -> Tensor:
    """Σ ggᵀ over the gradients of what leaves a layer, float64."""
    if type(module) is nn.Conv2d:
        g = gradients.permute(0, 2, 3, 1).flatten(1, 2)
        return torch.bmm(g.mT, g).sum(0, dtype=torch.float64)
    g = gradients.reshape(-1, gradients.shape[-1])
    return (g.mT @ g).double()


def _effect(block: Full, pull: Tensor, eps: float) -> Tensor:
    """Of rounding in a dense block on a log-determinant with these slopes in its eigenvalues."""
    return len(pull) ** 0.5 * eps * block.values.norm() * pull.norm()


def _own(leaf: Leaf, rows: Tensor) -> Tensor:
    flat = rows.reshape(-1, rows.shape[-1])
    return flat.mT @ flat if leaf.size <= _FULL else flat.square().sum(0)


def _each_layer(
    weights: Weights,
    sample: Sample,
    use: Callable[[Leaf, Tensor], None],
    progress: Progress | None,
) -> None:
    """use(layer, its rows of Λ^½J (b, K, p)) for every layer and batch."""
    every = range(0, len(sample.x), sample.batch)
    for number, start in enumerate(every):
        some = slice(start, start + sample.batch)
        vectors, values = sample.vectors[some], sample.values[some].sqrt()
        calls = forward(weights, sample.x[some], weights.leaves).gradients(vectors)
        for leaf in weights.leaves:
            rows = layer_rows(Part(leaf), calls[leaf.name], len(values), vectors)
            use(leaf, rows * values[..., None])
        if progress is not None:
            progress(number + 1, len(every), "curvature")


def _add(store: dict[str, Tensor], name: str, value: Tensor) -> None:
    store[name] = store[name] + value if name in store else value

"""Block-diagonal curvatures: Kronecker factors of each layer, or the diagonal alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bayesgen import solvers, verify
from bayesgen._internal.progress import Progress
from bayesgen.curvature.curvature import (
    Curvature,
    CurvatureTerms,
    PriorShape,
    spectral_terms,
    standard_normal,
)
from bayesgen.curvature.factor_check import NO_FACTORS, FactorCheck
from bayesgen.curvature.gradient_check import GradientCheck
from bayesgen.curvature.jacobian import Sample, jacobians
from bayesgen.curvature.jacobian_rows import Part, forward, layer_rows, windows
from bayesgen.curvature.parameters import Leaf, Weights, differentiable
from bayesgen.curvature.row_paths import rows
from bayesgen.networks.admission import check_other_batches, other_batches
from bayesgen.solvers.quadrature import Measure
from bayesgen.spectrum.spectrum import Spectrum

# A layer without a Kronecker form has a dense block up to this size, else its diagonal.
_FULL = 1024
# Number of observations on which factors are checked.
_FEW = 8
# Relative rounding error of diagonal entries, in eps; measured on two networks of many layers.
_DEEP = 10


class Block(Protocol):
    """Curvature of some weights, with its eigenbasis."""

    @property
    def columns(self) -> slice:
        """Columns of θ that the block covers, p of them."""

    @property
    def values(self) -> Tensor:
        """Eigenvalues of the block, (p,)."""

    @property
    def turned(self) -> bool:
        """Whether the eigenbasis differs from the weights' own; they then share one precision."""

    def rounding(self, alpha: Tensor, eps: float) -> Tensor:
        """Effect of rounding in H on log|H + α|, to first order, (), nats.

        By |tr M δH| ≤ ‖M‖_F ‖δH‖_F with M = (H + α)⁻¹ and ‖δH‖_F = √p · eps · ‖H‖_F.

        Args:
            alpha: prior precision of each weight, (p,).
            eps: machine epsilon of the dtype in which H was computed.
        """

    def product(self, row: Tensor) -> Tensor:
        """Product of H with a vector, (p,)."""

    def rotate(self, rows: Tensor) -> Tensor:
        """Coordinates in the eigenbasis of rows (..., p)."""

    def back(self, coordinates: Tensor) -> Tensor:
        """Rows (..., p) from coordinates in the eigenbasis."""


@dataclass(frozen=True)
class Diagonal:
    """A diagonal block, whose eigenbasis is that of the weights."""

    columns: slice
    values: Tensor
    turned: bool = False

    def rounding(self, alpha: Tensor, eps: float) -> Tensor:
        """Effect of rounding on log|H + α|; see `Block.rounding`."""
        return _DEEP * eps * (self.values / (self.values + alpha)).sum()

    def product(self, row: Tensor) -> Tensor:
        """Product of H with a vector, (p,)."""
        return self.values * row

    def rotate(self, rows: Tensor) -> Tensor:
        """The rows themselves, which are the coordinates."""
        return rows

    def back(self, coordinates: Tensor) -> Tensor:
        """The coordinates themselves, which are the rows."""
        return coordinates


class Full:
    """A dense block, (p, p); its eigenvectors are computed on first use."""

    turned = True

    def __init__(self, columns: slice, matrix: Tensor) -> None:
        self.columns, self.matrix = columns, matrix

    @cached_property
    def values(self) -> Tensor:
        """Eigenvalues of the block, (p,), ascending."""
        return solvers.eigvalsh(self.matrix).clamp(min=0)

    @cached_property
    def vectors(self) -> Tensor:
        """Eigenvectors in the order of the eigenvalues, (p, p)."""
        return solvers.eigh(self.matrix)[1]

    def rounding(self, alpha: Tensor, eps: float) -> Tensor:
        """Effect of rounding on log|H + α|; see `Block.rounding`."""
        return _effect(self, 1 / (self.values + alpha), eps)

    def product(self, row: Tensor) -> Tensor:
        """Product of H with a vector, (p,)."""
        return self.matrix @ row

    def rotate(self, rows: Tensor) -> Tensor:
        """Coordinates in the eigenbasis of rows (..., p)."""
        return rows @ self.vectors

    def back(self, coordinates: Tensor) -> Tensor:
        """Rows (..., p) from coordinates in the eigenbasis."""
        return coordinates @ self.vectors.mT


class Kronecker:
    """A block G ⊗ A, from the eigendecompositions of its factors, computed on first use."""

    turned = True

    def __init__(self, columns: slice, left: Full, right: Full) -> None:
        self.columns, self.left, self.right = columns, left, right

    @cached_property
    def values(self) -> Tensor:
        """Eigenvalues of the block, (p,): the products of those of G and A."""
        return (self.left.values[:, None] * self.right.values).reshape(-1)

    def rounding(self, alpha: Tensor, eps: float) -> Tensor:
        """Sum of the effects of rounding in G and in A; see `Block.rounding`."""
        g, a = self.left.values, self.right.values
        inverse = self._wide(1 / (self.values + alpha))
        return _effect(self.left, inverse @ a, eps) + _effect(self.right, g @ inverse, eps)

    def _wide(self, rows: Tensor) -> Tensor:
        return rows.reshape(*rows.shape[:-1], len(self.left.matrix), len(self.right.matrix))

    def product(self, row: Tensor) -> Tensor:
        """Product of H with vec(W), which is vec(GWA), (p,)."""
        return (self.left.matrix @ self._wide(row) @ self.right.matrix).reshape(-1)

    def rotate(self, rows: Tensor) -> Tensor:
        """Coordinates vec(U_GᵀWU_A) in the eigenbasis of rows vec(W), (..., p)."""
        turned = self.left.vectors.mT @ self._wide(rows) @ self.right.vectors
        return turned.reshape(rows.shape)

    def back(self, coordinates: Tensor) -> Tensor:
        """Rows (..., p) from coordinates in the eigenbasis."""
        turned = self.left.vectors @ self._wide(coordinates) @ self.right.vectors.mT
        return turned.reshape(coordinates.shape)


class BlockDiagonal(Curvature):
    """A block-diagonal curvature H; see `Curvature`.

    Args:
        weights: weights of the network.
        prior: layout of the prior precisions; constant on every block whose eigenbasis is not that
            of the weights.
        blocks: blocks of H, which together cover all weights.
        method: description of the approximation.
        outputs: C, the number of the network's outputs.
        batch: number of observations processed at a time.

    Raises:
        ValueError: prior precisions differ within such a block.
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
                    "prior precisions that differ within a layer need curvature "
                    '"ggn" or "diag": the Kronecker factors of a layer share one precision'
                )
        if prior.count == 1:
            values = torch.cat([b.values / prior.base[b.columns] for b in blocks])
            measure = Measure(values, torch.ones_like(values))
            self.spectrum = Spectrum(measure, len(values), None, 0, method)

    def terms(self, precision: Tensor) -> CurvatureTerms:
        """Log-determinant and effective parameters at prior precisions (G,)."""
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

    def covariance(self, x: Any, precision: Tensor) -> Tensor:
        """Covariance J(H + diag α)⁻¹Jᵀ of the outputs at each new input, (m, C, C)."""
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
        """Draws of N(0, (H + diag α)⁻¹), (count, P)."""
        alpha = self.prior.precision(precision).double()
        w = alpha.new_empty(count, self.weights.count)
        for block in self.blocks:
            z = standard_normal((count, len(block.values)), generator, alpha)
            w[:, block.columns] = block.back(z * (block.values + alpha[block.columns]).rsqrt())
        return w.to(self.weights.theta)

    def gain(self, gradient: Tensor, precision: Tensor) -> float:
        """Gain ½ gᵀ(H + diag α)⁻¹g of a Newton step from gradient g, (P,), in nats."""
        alpha, total = self.prior.precision(precision).double(), 0.0
        for block in self.blocks:
            turned = block.rotate(gradient[block.columns]).square()
            total += float(0.5 * (turned / (block.values + alpha[block.columns])).sum())
        return total

    def least_gain(self, gradient: Tensor, precision: Tensor) -> float:
        """Lower bound of the gain, by gᵀB⁻¹g ≥ ‖g‖⁴/gᵀBg for each block, without eigenvectors."""
        alpha, total = self.prior.precision(precision).double(), 0.0
        for block in self.blocks:
            g = gradient[block.columns]
            size = g.square().sum()
            if size > 0:
                bent = g @ block.product(g) + (alpha[block.columns] * g.square()).sum()
                total += float(0.5 * size.square() / bent)
        return total


def diagonal(weights: Weights, sample: Sample, progress: Progress | None = None) -> list[Block]:
    """The diagonal of the exact GGN, Σ (Λ^½J)², as one block."""
    total = torch.zeros(weights.count, dtype=torch.float64, device=weights.theta.device)

    check = GradientCheck(weights, sample)

    def add(leaf: Leaf, rows: Tensor, start: int) -> None:
        squares = rows.double().square().sum((0, 1))
        total[leaf.span] += squares
        check.add(leaf.span, rows.flatten(0, 1), start * rows.shape[1], squares)

    _each_layer(weights, sample, add, progress)
    check.settle()
    return [Diagonal(slice(0, weights.count), total)]


def kronecker(weights: Weights, sample: Sample, progress: Progress | None = None) -> list[Block]:
    """KFAC-expand approximation of the GGN: G ⊗ A/(nT) for each weight matrix and G for each bias.

    A = Σ aaᵀ sums over the observations and the T positions that share a weight. G = Σ ggᵀ sums
    over these and over the columns of the root of Λ. Other layers (norms, embeddings, attention,
    recurrent layers, scalars) have their exact block, or its diagonal where the block is large.

    The observations are processed in another order than before, so that outputs that depend on the
    rest of a batch are found.

    Raises:
        ValueError: a linear layer or convolution shares its weights with another module, or its
            weights are used outside of its own call; it has no Kronecker factors then. The network
            mixes the observations of a batch.

    Source: Martens & Grosse (2015); Eschenhagen et al. (2023), section 3, as in curvlinops.
    """
    A: dict[str, Tensor] = {}
    G: dict[str, Tensor] = {}
    positions: dict[str, int] = {}
    rest: dict[str, Tensor] = {}
    factored = [leaf for leaf in weights.leaves if _factors(leaf)]
    plain = [Part(leaf) for leaf in weights.leaves if not _factors(leaf)]
    _check_factors(weights, sample, factored)
    check = FactorCheck(weights, sample, factored)
    every = other_batches(len(sample.x), sample.batch)
    outputs = None if sample.outputs is None else torch.empty_like(sample.outputs)
    for number, order in enumerate(every):
        some = order.to(weights.theta.device)
        vectors = sample.vectors[some] * sample.values[some].sqrt()[:, None, :]
        together = not weights.direct
        leaves = weights.leaves if together else factored
        passed = forward(weights, sample.x[some], leaves)
        if outputs is not None:
            outputs[some] = passed.outputs.detach()
        for leaf in factored:
            for inputs, _ in passed.calls[leaf.name]:
                found, count = _inputs(leaf.module, inputs)
                _add(A, leaf.name, found)
                positions[leaf.name] = positions.get(leaf.name, 0) + count
        batch, others = check.batch(passed, vectors, some), []
        for gradients in passed.passes(vectors):
            batch.add(gradients)
            for leaf in factored:
                for g in gradients[leaf.name]:
                    _add(G, leaf.name, _outputs(leaf.module, g.flatten(0, 1)))
            if together:
                others.append({part.leaf.name: gradients[part.leaf.name] for part in plain})
        batch.settle()
        if together:
            calls = passed.joined(others)
            own = [(p, layer_rows(p, calls[p.leaf.name], len(vectors), vectors)) for p in plain]
        else:
            own = list(rows(weights, sample.x[some], vectors, plain)) if plain else []
        for part, found in own:
            _add(rest, part.leaf.name, _own(part.leaf, found.double()))
        if progress is not None:
            progress(number + 1, len(every), "curvature")
    if outputs is not None and sample.outputs is not None:
        check_other_batches(outputs, sample.outputs)
    check.settle()
    blocks: list[Block] = []
    for leaf in weights.leaves:
        if leaf.name in G:
            left = Full(leaf.columns.get("bias", slice(0, 0)), G[leaf.name])
            if "weight" in leaf.columns:
                right = Full(slice(0, 0), A[leaf.name] / positions[leaf.name])
                blocks.append(Kronecker(leaf.columns["weight"], left, right))
            if "bias" in leaf.columns:
                blocks.append(left)
        elif leaf.name not in rest:  # the network does not use this layer
            blocks.append(Diagonal(leaf.span, weights.theta.new_zeros(leaf.size).double()))
        elif rest[leaf.name].ndim == 2:
            blocks.append(Full(leaf.span, rest[leaf.name]))
        else:
            blocks.append(Diagonal(leaf.span, rest[leaf.name]))
    return blocks


def _check_factors(weights: Weights, sample: Sample, factored: list[Leaf]) -> None:
    """Check that gradients of factored layers follow from their own inputs and outputs.

    The sum over observations is compared with a reverse pass. A layer whose inputs have another
    order of axes or observations has no Jacobian rows that follow from them, but it has factors.
    """
    doubtful = [leaf for leaf in factored if leaf.name in weights.direct]
    if not doubtful:
        return
    x, C = sample.x[:_FEW], sample.vectors.shape[1]
    v = verify.random_vector(len(x) * C, weights.theta).reshape(len(x), C, 1)
    with differentiable():
        calls = forward(weights, x, doubtful).gradients(v)
    direct = weights.vjp(x, v[..., 0])
    for leaf in doubtful:
        found = torch.zeros_like(direct[leaf.span])
        try:
            for call in calls[leaf.name]:
                found += layer_rows(Part(leaf), [call], len(call[0]), v).double().sum((0, 1))
        except RuntimeError:  # inputs without an axis of observations
            raise ValueError(NO_FACTORS.format(leaf.name)) from None
        if not verify.compare("gradient of a layer", found, direct[leaf.span]).passed:
            raise ValueError(NO_FACTORS.format(leaf.name))


def _factors(leaf: Leaf) -> bool:
    """Whether a layer has a Kronecker form: an ungrouped convolution or a linear layer."""
    module = leaf.module
    if not set(leaf.columns) <= {"weight", "bias"}:
        return False
    if type(module) is nn.Conv2d:
        return module.groups == 1 and module.padding_mode == "zeros"
    return type(module) is nn.Linear


def _inputs(module: nn.Module, inputs: Tensor) -> tuple[Tensor, int]:
    """Sum Σ aaᵀ over the inputs of a layer, float64, and its number of terms."""
    if type(module) is not nn.Conv2d:
        a = inputs.reshape(-1, inputs.shape[-1])
        return (a.mT @ a).double(), len(a)
    seen = windows(module, inputs).flatten(0, 1)
    (kh, kw), channels = module.kernel_size, inputs.shape[1]
    total = (seen.mT @ seen).double().reshape(kh, kw, channels, kh, kw, channels)
    side = kh * kw * channels
    return total.permute(2, 0, 1, 5, 3, 4).reshape(side, side), len(seen)


def _outputs(module: nn.Module, gradients: Tensor) -> Tensor:
    """Sum Σ ggᵀ over the gradients at the outputs of a layer, float64."""
    if type(module) is nn.Conv2d:
        g = gradients.permute(0, 2, 3, 1).flatten(1, 2)
        return torch.bmm(g.mT, g).sum(0, dtype=torch.float64)
    g = gradients.reshape(-1, gradients.shape[-1])
    return (g.mT @ g).double()


def _effect(block: Full, pull: Tensor, eps: float) -> Tensor:
    """Effect of rounding in a dense block on a log-determinant with derivatives `pull`."""
    return len(pull) ** 0.5 * eps * block.values.norm() * pull.norm()


def _own(leaf: Leaf, rows: Tensor) -> Tensor:
    flat = rows.reshape(-1, rows.shape[-1])
    return flat.mT @ flat if leaf.size <= _FULL else flat.square().sum(0)


def _each_layer(
    weights: Weights,
    sample: Sample,
    use: Callable[[Leaf, Tensor, int], None],
    progress: Progress | None,
) -> None:
    """Call use(layer, its rows of Λ^½J (b, K, p), first observation) for every layer and batch."""
    every = range(0, len(sample.x), sample.batch)
    parts = [Part(leaf) for leaf in weights.leaves]
    for number, start in enumerate(every):
        some = slice(start, start + sample.batch)
        values = sample.values[some].sqrt()[..., None]
        for part, found in rows(weights, sample.x[some], sample.vectors[some], parts):
            use(part.leaf, found * values, start)
        if progress is not None:
            progress(number + 1, len(every), "curvature")


def _add(store: dict[str, Tensor], name: str, value: Tensor) -> None:
    store[name] = store[name] + value if name in store else value

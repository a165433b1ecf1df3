"""A curvature as a whole, (P, P): exact GGN by its triangular root, the Hessian, a last layer."""

from __future__ import annotations

import torch
from torch import Tensor

from bayesgen import solvers
from bayesgen.curvature.base import Curvature, PriorShape, Terms, standard_normal
from bayesgen.curvature.sample import Sample, jacobians, weighted_rows
from bayesgen.curvature.weights import Weights
from bayesgen.measure import Measure
from bayesgen.spectrum import Spectrum


class Dense(Curvature):
    """H by its square root or by itself; see `Curvature`.

    Args:
        weights: of the network.
        prior: the layout of the prior precisions.
        method: in words.
        root: T with H = TᵀT, (r, P): no digits are lost to a product.
        matrix: H itself, (P, P), where there is no root.
        outputs: C.
        batch: observations a pass.
    """

    def __init__(
        self,
        weights: Weights,
        prior: PriorShape,
        method: str,
        *,
        root: Tensor | None = None,
        matrix: Tensor | None = None,
        outputs: int,
        batch: int,
    ) -> None:
        self.outputs = outputs
        self.weights, self.prior, self.method, self.batch = weights, prior, method, batch
        self._root, self._matrix = root, matrix
        self._last: tuple[Tensor, Tensor, Tensor] | None = None
        if prior.count == 1:
            values, vectors = self._decompose(torch.ones(1, dtype=torch.float64))
            self.spectrum = Spectrum(
                Measure(values, torch.ones_like(values)), len(values), None, 0, method, vectors
            )

    def _decompose(self, precision: Tensor) -> tuple[Tensor, Tensor]:
        """Eigenvalues and eigenvectors of S^½HS^½.

        Negative eigenvalues are counted and set to zero: with them the evidence would grow without
        bound as α falls towards the largest of them.
        """
        shrink = self.prior.precision(precision).rsqrt().double()
        if self._root is not None:
            _, singular, right = torch.linalg.svd(self._root.double() * shrink, full_matrices=True)
            values = torch.zeros_like(shrink)
            values[: len(singular)] = singular.square()
            return values, right.mT
        assert self._matrix is not None
        values, vectors = solvers.eigh(shrink[:, None] * self._matrix.double() * shrink)
        eps = torch.finfo(self.weights.theta.dtype).eps
        self.negative = int((values < -10 * len(values) * eps * values.abs().max()).sum())
        return values.clamp(min=0), vectors

    def _at(self, precision: Tensor) -> tuple[Tensor, Tensor]:
        if self.spectrum is not None:
            vectors = self.spectrum.vectors
            assert vectors is not None
            return self.spectrum.density.nodes / precision[0], vectors
        if self._last is None or not torch.equal(self._last[0], precision):
            self._last = (precision.clone(), *self._decompose(precision))
        return self._last[1], self._last[2]

    def terms(self, precision: Tensor) -> Terms:
        """See `Curvature.terms`."""
        values, vectors = self._at(precision)
        each = values / (1 + values)
        if self.prior.count == 1:
            freedom = each.sum()[None]
        else:
            freedom = self.prior.sums(vectors.square() @ each)
        eps, n = torch.finfo(self.weights.theta.dtype).eps, len(values)
        if self._root is None:
            error = n**0.5 * eps * values.max() * (1 / (1 + values)).sum()
        else:
            root = values.clamp(min=0).sqrt()
            error = 2 * n**0.5 * eps * root.max() * (root / (1 + values)).sum()
        return Terms(values.log1p().sum(), freedom, error)

    def covariance(self, x: Tensor, precision: Tensor) -> Tensor:
        """See `Curvature.covariance`."""
        values, vectors = self._at(precision)
        root = self.prior.precision(precision).rsqrt().double()
        turned = root[:, None] * vectors * (1 + values).rsqrt()
        every = jacobians(self.weights, x, self.outputs, self.batch)
        halves = (J @ turned for J in every)
        return torch.cat([half @ half.mT for half in halves])

    def draw(self, count: int, precision: Tensor, generator: torch.Generator) -> Tensor:
        """See `Curvature.draw`."""
        values, vectors = self._at(precision)
        root = self.prior.precision(precision).rsqrt().double()
        z = standard_normal((count, len(values)), generator, values)
        drawn = (z * (1 + values).rsqrt()) @ vectors.mT * root
        return drawn.to(self.weights.theta)

    def gain(self, gradient: Tensor, precision: Tensor) -> float:
        """See `Curvature.gain`."""
        values, vectors = self._at(precision)
        root = self.prior.precision(precision).rsqrt().double()
        turned = vectors.mT @ (root * gradient)
        return float(0.5 * (turned.square() / (1 + values)).sum())


def ggn_root(weights: Weights, sample: Sample) -> Tensor:
    """The triangular factor T of Λ^½J, TᵀT = H, (P, P) or smaller: by QR, some rows at a time."""
    waiting: list[Tensor] = []
    for J in weighted_rows(weights, sample):
        waiting.append(J)
        if sum(map(len, waiting)) > 4 * weights.count:
            waiting = [torch.linalg.qr(torch.cat(waiting), mode="r").R]
    return torch.linalg.qr(torch.cat(waiting), mode="r").R


def ggn_matrix(weights: Weights, sample: Sample) -> Tensor:
    """H = JᵀΛJ, (P, P), float64: cheaper than its root, and half the digits."""
    H = torch.zeros(weights.count, weights.count, dtype=torch.float64, device=sample.x.device)
    for J in weighted_rows(weights, sample):
        rows = J.double()
        H.addmm_(rows.mT, rows)
    return H


def last_layer_matrix(weights: Weights, sample: Sample, features: Tensor) -> Tensor:
    """H of one linear layer that ends the network: Σᵢ Λᵢ ⊗ φᵢφᵢᵀ, weights before biases.

    Args:
        weights: of that layer.
        sample: the observations.
        features: φ, what enters it, (n, d).
    """
    bias, phi = "bias" in weights.leaves[0].columns, features
    if bias:
        phi = torch.cat([phi, phi.new_ones(len(phi), 1)], 1)
    C, d = sample.vectors.shape[1], phi.shape[1]
    inner = torch.einsum("nck,nk,nek->cen", sample.vectors, sample.values, sample.vectors)
    H = phi.new_empty(C, d, C, d)
    for c in range(C):
        for e in range(c + 1):
            block = phi.mT @ (inner[c, e][:, None] * phi)
            H[c, :, e] = block
            H[e, :, c] = block.mT
    H = H.reshape(C * d, C * d)
    if not bias:
        return H
    at = torch.arange(C * d).reshape(C, d)
    order = torch.cat([at[:, :-1].reshape(-1), at[:, -1]])  # as θ has them
    return H[order[:, None], order]

"""Curvatures as whole (P, P) matrices: GGN by a triangular root, Hessian, or last layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from bayesgen import solvers
from bayesgen.curvature.curvature import Curvature, CurvatureTerms, PriorShape, standard_normal
from bayesgen.curvature.gradient_check import GradientCheck
from bayesgen.curvature.jacobian import Sample, jacobians, weighted_rows
from bayesgen.curvature.parameters import Weights
from bayesgen.solvers.quadrature import Measure
from bayesgen.spectrum.spectrum import Spectrum


class Dense(Curvature):
    """A curvature H given by a square root or as a matrix; see `Curvature`.

    Args:
        weights: weights of the network.
        prior: layout of the prior precisions.
        method: description of how H was computed.
        root: T with H = TᵀT, (r, P); it is more accurate than the product.
        matrix: H itself, (P, P), where there is no root.
        outputs: C, the number of the network's outputs.
        batch: number of observations processed at a time.
        many: whether determinants at many precisions will be needed, which come from eigenvalues.
        definite: whether H ≥ 0. If not, negative eigenvalues are counted and set to zero, because
            with them the evidence would grow without bound as α approaches their magnitude.
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
        many: bool = True,
        definite: bool = True,
    ) -> None:
        self.outputs = outputs
        self.weights, self.prior, self.method, self.batch = weights, prior, method, batch
        self._root = None if root is None else root.double()
        self._matrix = None if matrix is None else matrix.double()
        self._last: tuple[Tensor, Tensor] | None = None
        if not definite:
            self._clip()
        if prior.count == 1 and many:
            values = self._eigenvalues()
            method = self.method
            self.spectrum = Spectrum(
                Measure(values, torch.ones_like(values)), len(values), None, 0, method
            )

    def _clip(self) -> None:
        """Count the negative eigenvalues of S^½HS^½ at unit precision and set them to zero."""
        assert self._matrix is not None
        root = self.prior.base.sqrt().double()
        values, vectors = solvers.eigh(self._matrix / root / root[:, None])
        eps = torch.finfo(self.weights.theta.dtype).eps
        self.negative = int((values < -10 * len(values) * eps * values.abs().max()).sum())
        if values[0] < 0:
            half = root[:, None] * vectors * values.clamp(min=0).sqrt()
            self._matrix = half @ half.mT

    def _eigenvalues(self) -> Tensor:
        """Eigenvalues of S^½HS^½ at unit precision, (P,)."""
        shrink = self.prior.base.rsqrt().double()
        if self._root is not None:
            singular = torch.linalg.svdvals(self._root * shrink)
            values = torch.zeros_like(shrink)
            values[: len(singular)] = singular.square()
            return values
        assert self._matrix is not None
        return solvers.eigvalsh(shrink[:, None] * self._matrix * shrink).clamp(min=0)

    def _factor(self, precision: Tensor) -> tuple[Tensor, Tensor]:
        """R with RᵀR = I + S^½HS^½, upper triangular (P, P), and the root of S, (P,)."""
        shrink = self.prior.precision(precision).rsqrt().double()
        if self._last is None or not torch.equal(self._last[0], precision):
            if self._root is not None:
                eye = torch.eye(len(shrink), dtype=shrink.dtype, device=shrink.device)
                R = torch.linalg.qr(torch.cat([self._root * shrink, eye]), mode="r").R
            else:
                assert self._matrix is not None
                A = (self._matrix * shrink).mul_(shrink[:, None])
                A.diagonal().add_(1)
                R = _triangular(A)
            self._last = (precision.clone(), R)
        return self._last[1], shrink

    def terms(self, precision: Tensor) -> CurvatureTerms:
        """Log-determinant and effective parameters at prior precisions (G,)."""
        eps, P = torch.finfo(self.weights.theta.dtype).eps, self.weights.count
        if self.spectrum is not None:
            values = self.spectrum.density.nodes / precision[0]
            logdet, top, inverse = values.log1p().sum(), values.max(), 1 / (1 + values)
            effective_parameters = (values * inverse).sum()[None]
        else:
            R, _ = self._factor(precision)
            inverse = torch.cholesky_inverse(R, upper=True).diagonal()
            logdet, effective_parameters = (
                2 * R.diagonal().abs().log().sum(),
                self.prior.sums(1 - inverse),
            )
            top = R.new_tensor(solvers.largest_eigenvalue(lambda v: R.mT @ (R @ v) - v, R))
        if self._root is None:
            error = P**0.5 * eps * top * inverse.sum()
        else:  # Σ √λ/(1 + λ) ≤ √(Σ λ/(1 + λ) Σ 1/(1 + λ))
            error = (
                2
                * P**0.5
                * eps
                * (top * effective_parameters.sum().clamp(min=0) * inverse.sum()).sqrt()
            )
        return CurvatureTerms(logdet, effective_parameters, error)

    def covariance(self, x: Any, precision: Tensor) -> Tensor:
        """Covariance J(H + diag α)⁻¹Jᵀ of the outputs at each new input, (m, C, C)."""
        R, root = self._factor(precision)
        found = []
        for J in jacobians(self.weights, x, self.outputs, self.batch):
            # One right-hand side for all rows; a batch of right-hand sides would copy R for each.
            rows = (J * root).reshape(-1, len(root))
            half = torch.linalg.solve_triangular(R, rows, upper=True, left=False).reshape(J.shape)
            found.append(half @ half.mT)
        return torch.cat(found)

    def draw(self, count: int, precision: Tensor, generator: torch.Generator) -> Tensor:
        """Draws of N(0, (H + diag α)⁻¹), (count, P)."""
        R, root = self._factor(precision)
        z = standard_normal((len(R), count), generator, R)
        drawn = torch.linalg.solve_triangular(R, z, upper=True).mT * root
        return drawn.to(self.weights.theta)

    def gain(self, gradient: Tensor, precision: Tensor) -> float:
        """Gain ½ gᵀ(H + diag α)⁻¹g of a Newton step from gradient g, (P,), in nats."""
        R, root = self._factor(precision)
        turned = torch.linalg.solve_triangular(R.mT, (root * gradient)[:, None], upper=False)
        return float(0.5 * turned.square().sum())


def _triangular(A: Tensor) -> Tensor:
    """R, upper triangular, with RᵀR = A for A ≥ I; rounding of small eigenvalues is undone."""
    R, failed = torch.linalg.cholesky_ex(A)
    if not failed:
        return R.mT
    values, vectors = solvers.eigh(A)
    half = vectors * values.clamp(min=1).sqrt()
    return torch.linalg.qr(half.mT, mode="r").R


def _checked_rows(weights: Weights, sample: Sample) -> Iterator[Tensor]:
    """Rows of Λ^½J for a batch at a time, (bK, P), which are checked once all were read."""
    check, start = GradientCheck(weights, sample), 0
    for J in weighted_rows(weights, sample):
        check.add(slice(None), J, start)
        start += len(J)
        yield J
    check.settle()


def ggn_root(weights: Weights, sample: Sample) -> Tensor:
    """Triangular factor T of Λ^½J with TᵀT = H, at most (P, P), by QR of some rows at a time."""
    waiting: list[Tensor] = []
    for J in _checked_rows(weights, sample):
        waiting.append(J)
        if sum(map(len, waiting)) > 4 * weights.count:
            waiting = [torch.linalg.qr(torch.cat(waiting), mode="r").R]
    return torch.linalg.qr(torch.cat(waiting), mode="r").R


def ggn_matrix(weights: Weights, sample: Sample) -> Tensor:
    """The matrix H = JᵀΛJ, (P, P), float64: cheaper than its root but with half the digits."""
    H = torch.zeros(weights.count, weights.count, dtype=torch.float64, device=weights.theta.device)
    for J in _checked_rows(weights, sample):
        rows = J.double()
        H.addmm_(rows.mT, rows)
    return H


def last_layer_matrix(weights: Weights, sample: Sample, features: Tensor) -> Tensor:
    """H of a linear layer that ends the network: Σᵢ Λᵢ ⊗ φᵢφᵢᵀ, weights before biases.

    Args:
        weights: weights of that layer.
        sample: the observations.
        features: inputs φ of the layer, (n, d).
    """
    bias, phi = "bias" in weights.leaves[0].columns, features
    if bias:
        phi = torch.cat([phi, phi.new_ones(len(phi), 1)], 1)
    C, d = sample.vectors.shape[1], phi.shape[1]
    half = sample.vectors * sample.values.sqrt()[:, None, :]
    inner = half @ half.mT
    H = phi.new_empty(C, d, C, d)
    for c in range(C):
        wide = (inner[:, c, : c + 1, None] * phi[:, None, :]).flatten(1)
        H[c, :, : c + 1] = (phi.mT @ wide).reshape(d, c + 1, d)
        H[:c, :, c] = H[c, :, :c].permute(1, 2, 0)
    if not bias:
        return H.reshape(C * d, C * d)
    parts = (H[..., :-1], H[..., -1:])  # weights and biases, in the order of θ
    return torch.cat(
        [
            torch.cat(
                [part[:, rows].reshape(-1, part.shape[2] * part.shape[3]) for part in parts], 1
            )
            for rows in (slice(d - 1), slice(d - 1, d))
        ]
    )

"""The exact GGN in function space, by the (n·C)×(n·C) Gram matrix Λ^½ J S Jᵀ Λ^½.

It has the non-zero eigenvalues of S^½ Jᵀ Λ J S^½, for any number of weights. The Jacobian is
computed for a few layers at a time.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bayesgen import solvers
from bayesgen.curvature.curvature import (
    Curvature,
    CurvatureTerms,
    PriorShape,
    spectral_terms,
    standard_normal,
)
from bayesgen.curvature.float32_error import Measured
from bayesgen.curvature.jacobian import Sample, chunks, jacobian
from bayesgen.curvature.kept_rows import LeftOut
from bayesgen.curvature.parameters import Weights
from bayesgen.spectrum.decomposition import Rounding
from bayesgen.spectrum.spectrum import Spectrum


class DualGGN(Curvature):
    """The GGN H = JᵀΛJ, represented by its (nK, nK) Gram matrix; see `Curvature`.

    Args:
        weights: weights of the network.
        sample: the observations.
        prior: layout of the prior precisions.
        blocks: for each group, its Gram matrix at unit precision (nK, nK), or rows whose Gram
            matrix it is; see `grams`.
        decomposed: whether the Gram matrix of a single group is decomposed into eigenvalues, which
            give determinants at any precision in O(n); otherwise it is factorised at each
            precision.
        rounded: rounding error of the blocks, measured on a few observations, where they were not
            computed in float64.
        left: rows that the sample does not keep, with one group; None where it keeps all.
    """

    left: LeftOut | None = None

    def __init__(
        self,
        weights: Weights,
        sample: Sample,
        prior: PriorShape,
        blocks: list[Tensor],
        *,
        decomposed: bool = True,
        rounded: Measured | None = None,
        left: LeftOut | None = None,
    ) -> None:
        self.rounded, self.left = rounded, left
        self.weights, self.sample, self.prior = weights, sample, prior
        self.method = f"GGN through its {sample.count:,} × {sample.count:,} Gram matrix"
        if left is not None:
            self.method += f" (of {sample.values.numel():,} rows, the others estimated)"
        self._inverse: tuple[Tensor, Tensor] | None = None
        self._blocks = blocks
        if prior.count == 1 and decomposed:
            K = self._blocks[0]
            n, eps = len(K), torch.finfo(K.dtype).eps
            # Eigenvalues are computed in float64 for any dtype; rounding errors come only from the
            # sums.
            values, vectors = solvers.eigh(K.double())
            if rounded is None:
                rounding = Rounding(matrix=n**0.5 * eps * float(values[-1]))
            else:
                rounding = Rounding(entries=rounded.relative * float(values.sum()))
            method = f"exact {self.method}"
            values = values.clamp(min=0)
            self.spectrum = Spectrum.of_basis(values, vectors, n, None, method, rounding)
            self._blocks = [torch.empty(0)]

    def terms(self, precision: Tensor) -> CurvatureTerms:
        """Log-determinant and effective parameters at prior precisions (G,)."""
        if self.spectrum is not None:
            found = spectral_terms(self.spectrum, precision)
            if self.rounded is None:
                return found
            return found._replace(
                error=self.rounded.effect(partial(self._block, precision=precision), precision)
            )
        self._inverse = None  # free it before the next matrix is allocated
        factor = self._factorised(precision)
        logdet = factor.logdet()
        inverse = factor.into_inverse()
        self._inverse = (precision.clone(), inverse)
        effective_parameters = torch.stack(
            [self._trace(inverse, g) for g in range(self.prior.count)]
        )
        if self.rounded is None:  # |tr A⁻¹δA| ≤ ‖δA‖ tr A⁻¹
            top = solvers.largest_eigenvalue(partial(self._product, precision), inverse)
            norm = solvers.rounding_norm(len(inverse), top, self.weights.theta.dtype)
            error = norm * inverse.diagonal().sum()
        else:
            error = self.rounded.effect(lambda rows: inverse[rows][:, rows], precision)
        if factor.jitter:
            # A ≥ I, so that log|A + δI| − log|A| ≤ (1 + δ) log(1 + δ) tr (A + δI)⁻¹.
            shift = (1 + factor.jitter) * math.log1p(factor.jitter)
            error = error + shift * inverse.diagonal().sum()
        terms = CurvatureTerms(
            logdet, effective_parameters / precision.to(effective_parameters), error
        )
        return terms if self.left is None else self.left.completed(terms, inverse, precision)

    def _block(self, rows: Tensor, precision: Tensor) -> Tensor:
        """Entries of A⁻¹ at some rows and the same columns, from the spectrum."""
        assert self.spectrum is not None
        assert self.spectrum.vectors is not None
        vectors = self.spectrum.vectors[rows]
        return (vectors / (1 + self.spectrum.density.nodes / precision[0])) @ vectors.mT

    def _trace(self, inverse: Tensor, g: int) -> Tensor:
        """Trace tr A⁻¹K_g for group g."""
        block = self._blocks[g]
        if block.shape[1] == len(inverse):
            return (inverse * block).sum(dtype=torch.float64)
        block = block.to(inverse)
        return ((inverse @ block) * block).sum()

    def _product(self, precision: Tensor, v: Tensor) -> Tensor:
        """Product Λ^½JSJᵀΛ^½ v at prior precisions (G,), for v (n, k) in float64."""
        result = torch.zeros_like(v)
        for g, block in enumerate(self._blocks):
            block = block.to(v)
            square = block.shape[1] == len(v)
            result += (block @ v if square else block @ (block.mT @ v)) / precision[g]
        return result

    def _system(self, precision: Tensor) -> Tensor:
        """The matrix A = I + Λ^½JSJᵀΛ^½ at prior precisions (G,), newly allocated in float64."""
        n = self.sample.count
        A = torch.zeros(n, n, dtype=torch.float64, device=self.weights.theta.device)
        for g, block in enumerate(self._blocks):
            if block.shape[1] == n:
                A.add_(block, alpha=float(1 / precision[g]))
            else:
                wide = block.double()
                A.addmm_(wide, wide.mT, alpha=float(1 / precision[g]))
        A.diagonal().add_(1)
        return A

    def _factorised(self, precision: Tensor) -> solvers.Factor:
        """The Cholesky factor of A at prior precisions (G,)."""
        try:
            return solvers.cholesky(partial(self._system, precision))
        except ValueError as err:
            raise ValueError(
                "the GGN at this prior precision and noise is not positive definite to rounding: "
                f"compute it with dtype=torch.float64, not {self.weights.theta.dtype}, or raise "
                "the prior precision"
            ) from err

    def solve(self, right: Tensor, precision: Tensor) -> Tensor:
        """Solution of (I + Λ^½JSJᵀΛ^½) u = right, (nK, k)."""
        right = right.double()
        if self.spectrum is not None:
            vectors = self.spectrum.vectors
            assert vectors is not None
            values = self.spectrum.density.nodes / precision[0]
            return vectors @ ((vectors.mT @ right) / (1 + values)[:, None])
        if self._inverse is None or not torch.equal(self._inverse[0], precision):
            self._inverse = None
            inverse = self._factorised(precision).into_inverse()
            self._inverse = (precision.clone(), inverse)
        return self._inverse[1] @ right

    def covariance(self, x: Any, precision: Tensor) -> Tensor:
        """Covariance J*SJ*ᵀ − J*SJᵀΛ^½ A⁻¹ Λ^½JSJ*ᵀ of the outputs at each new input, (m, C, C)."""
        C, m = self.sample.vectors.shape[1], len(x)
        root = self.prior.precision(precision).rsqrt().to(self.weights.theta)
        like = self.weights.theta
        eye = torch.eye(C, dtype=like.dtype, device=like.device).expand(m, C, C)
        new = Sample(x, like.new_ones(m, C), eye, self.sample.batch, self.sample.memory)
        cross = torch.zeros(self.sample.count, m * C, dtype=torch.float64, device=like.device)
        own = torch.zeros(m, C, C, dtype=torch.float64, device=like.device)
        for parts in chunks(self.weights, self.sample.count + m * C, self.sample.memory):
            index = torch.cat([part.index() for part in parts])
            there = jacobian(self.weights, new, parts).mul_(root[index])
            here = jacobian(self.weights, self.sample, parts).mul_(root[index])
            cross += here @ there.mT
            each = there.reshape(m, C, -1).double()
            own += each @ each.mT
        solved = self.solve(cross, precision)
        return own - torch.einsum("rmc,rme->mce", cross.reshape(-1, m, C), solved.reshape(-1, m, C))

    def draw(self, count: int, precision: Tensor, generator: torch.Generator) -> Tensor:
        """Draws of N(0, (H + diag α)⁻¹), (count, P), by Matheron's rule.

        With w ~ N(0, S) a draw is w − SJᵀΛ^½A⁻¹(Λ^½Jw + ε).
        """
        theta = self.weights.theta
        root = self.prior.precision(precision).rsqrt().to(theta)
        w = standard_normal((count, len(theta)), generator, theta) * root
        seen = torch.zeros(self.sample.count, count, dtype=theta.dtype, device=theta.device)
        every = list(chunks(self.weights, self.sample.count, self.sample.memory))
        only = len(every) == 1
        for parts in every:
            index = torch.cat([part.index() for part in parts])
            J = jacobian(self.weights, self.sample, parts)
            seen += J @ w[:, index].mT
        noise = standard_normal((self.sample.count, count), generator, theta)
        solved = self.solve(seen + noise, precision).to(theta)
        for parts in every:
            index = torch.cat([part.index() for part in parts])
            if not only:
                J = jacobian(self.weights, self.sample, parts)
            w[:, index] -= (J.mT @ solved).mT * root[index] ** 2
        return w

    def gain(self, gradient: Tensor, precision: Tensor) -> float:
        """Gain ½ gᵀ(H + diag α)⁻¹g of a Newton step, by one product with the Jacobian."""
        sample, step = self.sample, gradient / self.prior.precision(precision)
        moved = self.weights.jvp(sample.x, step, sample.batch).double()
        turned = torch.einsum("nck,nc->nk", sample.vectors.double(), moved)
        seen = sample.chosen(turned * sample.values.double().sqrt())[:, None]
        inside = (seen * self.solve(seen, precision)).sum()
        return float(0.5 * ((gradient * step).sum() - inside))

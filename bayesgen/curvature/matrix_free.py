"""GGN and Hessian by matrix products, through curvlinops, and their spectra by Lanczos."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from bayesgen import verify
from bayesgen.curvature.curvature import Curvature, CurvatureTerms, PriorShape, spectral_terms
from bayesgen.curvature.parameters import Weights
from bayesgen.curvature.products import PRODUCTS, Products
from bayesgen.likelihoods.likelihood import Likelihood
from bayesgen.networks.copies import has_repeated_modules
from bayesgen.solvers.quadrature import Measure
from bayesgen.spectrum.spectrum import Spectrum


class NegativeLogLikelihood(nn.Module):
    """The loss −Σ log p(y | f) that curvlinops differentiates."""

    reduction = "sum"

    def __init__(self, likelihood: Likelihood) -> None:
        super().__init__()
        self.likelihood = likelihood

    def forward(self, f: Tensor, y: Tensor) -> Tensor:
        """Loss at outputs f (b, C), for targets y in the likelihood's inner form."""
        return -self.likelihood.log_density(y, f).sum()


class _Evaluated(nn.Module):
    """The network of some weights as a module whose outputs have shape (b, C)."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.net, self._weights = weights.net, [weights]  # not a submodule

    def forward(self, x: Any) -> Tensor:
        """Outputs of one batch, (b, C)."""
        return self._weights[0].evaluate(x)


def operator(
    kind: str,
    weights: Weights,
    likelihood: Likelihood,
    data: Iterable[tuple[Any, Tensor]],
    few: int = 0,
) -> tuple[Any, tuple[verify.Check, ...]]:
    """The GGN or Hessian of −log p(D | θ), (P, P), as an operator, and its check.

    It is curvlinops' where its product with a random vector agrees with that of
    `bayesgen.curvature.products`, which takes only reverse passes; else it is the latter. The
    forward-mode derivatives that curvlinops uses are missing or wrong for some layers, such as
    LayerNorm.

    Args:
        kind: "ggn" or "hessian".
        weights: weights of the network.
        likelihood: likelihood of its outputs.
        data: batches (x, y), the same at every pass, y in the likelihood's inner form.
        few: number of weights up to which only the first batch is compared, because the matrix will
            be tested for symmetry.
    """
    direct = PRODUCTS[kind](weights, likelihood, data)
    v = verify.random_vector(weights.count, weights.theta)
    if has_repeated_modules(weights.net):  # curvlinops would leave the network changed
        return direct, ()
    some = data if weights.count > few else [next(iter(data))]
    try:
        found = _curvlinops(kind, weights, likelihood, some) @ v
        check = verify.compare(_WHAT, found, PRODUCTS[kind](weights, likelihood, some) @ v)
        if check.passed:
            return _curvlinops(kind, weights, likelihood, data), (check,)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception:
        pass
    return direct, ()


def words(op: Any) -> str:
    """How the products of an operator are computed, where curvlinops does not compute them."""
    return ", with products by reverse passes," if isinstance(op, Products) else ""


def _curvlinops(
    kind: str, weights: Weights, likelihood: Likelihood, data: Iterable[tuple[Any, Tensor]]
) -> Any:
    from curvlinops import GGNLinearOperator, HessianLinearOperator

    make = GGNLinearOperator if kind == "ggn" else HessianLinearOperator
    with weights.tracking() as parameters:
        op = make(
            _Evaluated(weights),
            NegativeLogLikelihood(likelihood),
            list(parameters),
            data,
            check_deterministic=False,
        )
    return _Tracked(op, weights)


def matrix(op: Any, batch: int = 256) -> Tensor:
    """Dense matrix of an operator (P, P), without the antisymmetric part that rounding leaves.

    Raises:
        NotSymmetricError: the matrix is not symmetric.
    """
    eye = torch.eye(op.shape[0], dtype=op.dtype, device=op.device)
    columns = torch.cat([op @ part for part in eye.split(batch, 1)], 1)
    check = verify.compare("symmetry of a curvature", columns.mT, columns)
    if not check.passed:
        raise NotSymmetricError(
            "net must have a symmetric Hessian, but torch's second derivatives of one of its "
            f"layers differ by {check.difference:.2g} of the largest entry with the order of "
            'differentiation; use curvature "ggn", "diag" or "kron"'
        )
    return 0.5 * (columns + columns.mT)


class NotSymmetricError(ValueError):
    """A matrix of second derivatives is not symmetric."""


class _Tracked:
    """An operator whose products need parameters that require gradients."""

    def __init__(self, op: Any, weights: Weights) -> None:
        self.op, self.weights = op, weights
        self.shape, self.dtype, self.device = op.shape, op.dtype, op.device

    def __matmul__(self, v: Tensor) -> Tensor:
        with self.weights.tracking():
            product: Tensor = (self.op @ v).detach()
        return product


_WHAT = "a product of the curvature with a random vector"


class _Scaled:
    """The operator S^½ A S^½ with S diagonal."""

    def __init__(self, op: Any, root: Tensor) -> None:
        self.op, self.root = op, root[:, None]
        self.shape, self.dtype, self.device = op.shape, op.dtype, op.device

    def __matmul__(self, v: Tensor) -> Tensor:
        return self.root * (self.op @ (self.root * v))


class MatrixFree(Curvature):
    """H by Lanczos quadrature: the evidence with its standard error, without covariances or draws.

    Args:
        weights: weights of the network.
        prior: layout of the prior precisions, with one group.
        op: H as an operator.
        kind: description of H.
        probes, steps, seed: settings of `Spectrum.lanczos`.

    Raises:
        ValueError: there are several groups of prior precisions.
    """

    def __init__(
        self,
        weights: Weights,
        prior: PriorShape,
        op: Any,
        kind: str,
        *,
        probes: int,
        steps: int,
        seed: int,
    ) -> None:
        if prior.count != 1:
            raise ValueError(
                "prior_precision must be one number where the curvature is used only through its "
                'products; for one per layer use "kron" or "diag", or fewer observations'
            )
        self.weights, self.prior = weights, prior
        root = prior.base.rsqrt().to(weights.theta)
        found = Spectrum.lanczos(_Scaled(op, root), probes=probes, steps=steps, seed=seed)
        assert found.probes is not None
        floor = 10 * found.rounding.matrix
        below = found.density.nodes < -floor
        self.negative = round(float(found.density.weights[below].sum()))
        each = Measure(found.probes.nodes.clamp(min=0), found.probes.weights)
        density = Measure(found.density.nodes.clamp(min=0), found.density.weights)
        self.method = f"{kind}{words(op)} by {found.method}"
        self.spectrum = Spectrum(
            density,
            found.n,
            None,
            0,
            self.method,
            rounding=found.rounding,
            probes=each,
        )

    def terms(self, precision: Tensor) -> CurvatureTerms:
        """Log-determinant and effective parameters at prior precision (1,)."""
        assert self.spectrum is not None
        return spectral_terms(self.spectrum, precision)

    def covariance(self, x: Tensor, precision: Tensor) -> Tensor:
        """Raise a ValueError: covariances need eigenvectors."""
        raise ValueError(_NO_BASIS)

    def draw(self, count: int, precision: Tensor, generator: torch.Generator) -> Tensor:
        """Raise a ValueError: draws need eigenvectors."""
        raise ValueError(_NO_BASIS)

    def gain(self, gradient: Tensor, precision: Tensor) -> float:
        """Upper bound ½ gᵀ diag(α)⁻¹g of the gain of a Newton step."""
        return float(0.5 * (gradient.square() / self.prior.precision(precision)).sum())


_NO_BASIS = (
    "a curvature that is used only through its products gives no predictive variances; fit "
    'with curvature "kron", "diag" or "last_layer", or on fewer observations, for predictions'
)

"""GGN and Hessian by matrix products, through curvlinops, and their spectra by Lanczos."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from bayesgen.curvature.curvature import Curvature, CurvatureTerms, PriorShape, spectral_terms
from bayesgen.curvature.parameters import Weights
from bayesgen.likelihoods.likelihood import Likelihood
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


def operator(
    kind: str, weights: Weights, likelihood: Likelihood, data: Iterable[tuple[Tensor, Tensor]]
) -> Any:
    """The GGN or Hessian of −log p(D | θ), (P, P), as a curvlinops operator.

    Args:
        kind: "ggn" or "hessian".
        weights: weights of the network.
        likelihood: likelihood of its outputs.
        data: batches (x, y), the same at every pass, y in the likelihood's inner form.
    """
    from curvlinops import GGNLinearOperator, HessianLinearOperator

    named = dict(weights.net.named_parameters())
    parameters = [named[name] for name in weights.names]
    for parameter in parameters:
        parameter.requires_grad_(True)
    make = GGNLinearOperator if kind == "ggn" else HessianLinearOperator
    return make(
        weights.net, NegativeLogLikelihood(likelihood), parameters, data, check_deterministic=False
    )


def matrix(op: Any, batch: int = 256) -> Tensor:
    """Dense, symmetrised matrix of an operator (P, P)."""
    eye = torch.eye(op.shape[0], dtype=op.dtype, device=op.device)
    columns = torch.cat([op @ part for part in eye.split(batch, 1)], 1)
    return 0.5 * (columns + columns.mT)


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
        self.method = f"{kind} by {found.method}"
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

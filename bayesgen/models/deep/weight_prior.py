"""The Laplace approximation for a Gaussian prior on the weights of a deep kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from bayesgen import solvers
from bayesgen.curvature.matrix_free import matrix
from bayesgen.curvature.parameters import Weights
from bayesgen.models.deep.objective import Head
from bayesgen.spectrum.decomposition import Rounding
from bayesgen.spectrum.spectrum import Spectrum

# Largest number of weights for which the Fisher information is formed as a matrix. Above it, only
# its products are used.
LARGEST = 1000


class Fisher:
    """Fisher information of N(0, A(w)) in the weights, for C outputs, as an operator (P, P).

        F = C/2 · tr(A⁻¹ ∂ᵢA A⁻¹ ∂ⱼA)

    It is the expectation of the negative Hessian of log p(y | w). Unlike that Hessian, it is always
    PSD. One product takes a directional derivative of A, two products with A⁻¹, and a vjp.

    Args:
        weights: weights of the network.
        head: the Gaussian process on the features.
        x: inputs, (n, …).
        outputs: number of outputs C.
        batch: observations per pass.

    Source: Rasmussen & Williams (2006), eq. 5.9, differentiated; Kay (1993), eq. 3.32.
    """

    def __init__(self, weights: Weights, head: Head, x: Tensor, outputs: int, batch: int) -> None:
        self.weights, self.head, self.x = weights, head, x
        self.outputs, self.batch = outputs, batch
        self.shape, self.dtype = (weights.count, weights.count), torch.float64
        self.device = x.device
        self.phi = weights.outputs(x, batch).double()
        with torch.no_grad():
            A = head.covariance(self.phi)
        self.inverse = solvers.cholesky(A).into_inverse()

    def __matmul__(self, v: Tensor) -> Tensor:
        return torch.stack([self._times(column) for column in v.mT], -1)

    def _times(self, v: Tensor) -> Tensor:
        moved = self.weights.jvp(self.x, v, self.batch).double()
        phi = self.phi.clone().requires_grad_()
        # The directional derivative of A takes two reverse passes, because gpytorch's kernels with
        # a custom backward pass support no forward mode.
        with torch.enable_grad():
            A = self.head.covariance(phi)
            u = torch.zeros_like(A, requires_grad=True)
            back = torch.autograd.grad(A, phi, u, create_graph=True)[0]
            along = torch.autograd.grad(back, u, moved, retain_graph=True)[0]
            inner = self.inverse @ along @ self.inverse
            slope = torch.autograd.grad(A, phi, inner)[0]
        return 0.5 * self.outputs * self.weights.vjp(self.x, slope, self.batch)


def spectrum(fisher: Fisher, gradient: Tensor, *, probes: int, steps: int) -> Spectrum:
    """Spectrum of the Fisher information, with a gradient (P,) as its targets.

    It is exact for at most 1,000 weights, and by Lanczos quadrature above.

    Args:
        fisher: the Fisher information.
        gradient: gradient of the log posterior in the weights, (P,).
        probes, steps: settings of the quadrature; see `Spectrum.lanczos`.
    """
    count = fisher.weights.count
    if count > LARGEST:
        return Spectrum.lanczos(fisher, gradient, probes=probes, steps=steps, seed=0)
    values, vectors = solvers.eigh(matrix(fisher))
    rounding = solvers.rounding_norm(count, float(values[-1]), fisher.weights.theta.dtype)
    method = "exact, by dense eigendecomposition"
    return Spectrum.of_basis(
        values.clamp(min=0), vectors, count, gradient, method, Rounding(matrix=rounding)
    )

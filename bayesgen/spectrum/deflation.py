"""Split the trace of a function of an operator into a resolved part and a sampled part.

For any orthonormal vectors V and any random vector z with independent entries of mean 0 and
variance 1 that is independent of V,

    tr f(A) = tr Vᵀf(A)V + E[zᵀ(I − VVᵀ) f(A) (I − VVᵀ)z].

The first part is computed without sampling. The vectors V need not be eigenvectors, but they must
be independent of z. Ritz vectors of a Krylov space that was started from z are not: in a cluster of
eigenvalues with more members than the space has directions there, they contain all that z has in
the cluster, and nothing is left to represent the other members. The probes are therefore divided
into groups, and V for one group comes from the Krylov space of the targets and of the other groups'
probes (cross-fitting). That space lies within the one that was computed, so it needs no further
products with the operator.

Source: Meyer, Musco, Musco & Woodruff (2021), Hutch++; Epperly, Tropp & Webber (2024), XTrace, for
the independence of each probe from the vectors that are projected out for it; Gambhir,
Stathopoulos & Orginos (2017) for deflation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bayesgen import solvers
from bayesgen.solvers.eigen import eigh

# Number of groups of probes.
_GROUPS = 2
# Size of the tracer in rounding units of a product, and the part of it that a direction may have.
_TRACER, _TRACED = 50.0, 1e-3
# Standard deviations by which the squared norm of what is left of the probes may fall short.
_SHORT = 6.0
# A Ritz pair whose residual is within this fraction of its value is resolved.
_CONVERGED = 0.05


@dataclass(frozen=True)
class Deflated:
    """Resolved and remaining part of the trace for each probe, in coordinates of the Ritz vectors.

    Attributes:
        gauss: weights of tr Vᵀf(A)V on the Ritz values, for each probe, (q, m).
        radau: its weights on the nodes of the Gauss–Radau rule, for each probe, (q, m + b').
        dimensions: number of resolved vectors for each probe, (q,).
        moments: tr VᵀV, tr VᵀAV and tr VᵀA²V for each probe, (q, 3).
        probes: the probes (I − VVᵀ)z, scaled to a squared norm of n − |V|, as columns, (m, q).
    """

    gauss: Tensor
    radau: Tensor
    dimensions: Tensor
    moments: Tensor
    probes: Tensor


def deflate(
    space: solvers.Krylov, coordinates: Tensor, around: Tensor, n: int, probes: int, eps: float
) -> Deflated:
    """Resolved part of a Krylov space, independent of each probe, and what is left of the probe.

    Args:
        space: the Krylov space, started from targets and then probes.
        coordinates: the targets and probes along the Ritz vectors, (m, columns).
        around: vectors of its Gauss–Radau rule in coordinates of the Ritz vectors, (m, m + b').
        n: order of the operator.
        probes: q, the number of probes; they are the last columns of the start.
        eps: rounding unit of the basis.
    """
    m, columns = coordinates.shape
    first = columns - probes
    gauss, radau = coordinates.new_zeros(probes, m), coordinates.new_zeros(probes, around.shape[1])
    dimensions, moments = coordinates.new_zeros(probes), coordinates.new_zeros(probes, 3)
    left, unit = coordinates[:, first:].clone(), space.coordinates()
    for group in range(_GROUPS):
        own = slice(group, None, _GROUPS)
        others = torch.cat([unit[:, :first], *_without(unit[:, first:], group)], 1)
        V, outside = _resolved(space, others, eps)
        V, outside = _independent(V, outside, left[:, own], n, eps)
        weights = V.square().sum(1)
        gauss[own], radau[own] = weights, (around.mT @ V).square().sum(1)
        dimensions[own] = float(V.shape[1])
        moments[own] = torch.stack([weights @ space.values**power for power in range(3)])
        moments[own, 2] += outside.square().sum()
        for _ in range(2):
            left[:, own] -= V @ (V.mT @ left[:, own])
    mass = left.square().sum(0)
    tiny = eps * n  # below this, only rounding error is left
    left = left * torch.where(mass > tiny, (n - dimensions) / mass.clamp(min=tiny), 0).sqrt()
    return Deflated(gauss, radau, dimensions, moments, left)


def _independent(
    V: Tensor, outside: Tensor, probes: Tensor, n: int, eps: float
) -> tuple[Tensor, Tensor]:
    """The resolved vectors, or none where they depend on the probes that they are used for.

    For vectors that are independent of a probe, ‖(I − VVᵀ)z‖² has the mean n − |V|. If it is much
    smaller, rounding errors or two probes that coincide have put the probe into the span of V.
    """
    dimensions, q = n - V.shape[1], probes.shape[1]
    mass = (probes - V @ (V.mT @ probes)).square().sum(0)
    least = 1 - _SHORT * (2 / max(dimensions * q, 1)) ** 0.5
    enough = float(mass.mean()) >= least * dimensions and bool((mass > eps * n).all())
    return (V, outside) if enough or not dimensions else (V[:, :0], outside[:, :0])


def nothing_resolved(probes: Tensor, nodes: int) -> Deflated:
    """The same without a resolved part.

    Args:
        probes: the probes in coordinates of the Ritz vectors, (m, q).
        nodes: number of nodes of the Gauss–Radau rule.
    """
    m, q = probes.shape
    none = probes.new_zeros
    return Deflated(none(q, m), none(q, nodes), none(q), none(q, 3), probes)


def _without(probes: Tensor, group: int) -> list[Tensor]:
    """The probes of the other groups."""
    return [probes[:, other::_GROUPS] for other in range(_GROUPS) if other != group]


def _resolved(space: solvers.Krylov, start: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Resolved Ritz vectors of the smaller Krylov space that some starting columns span.

    Args:
        space: the Krylov space of all columns.
        start: the columns in coordinates of the space's Ritz vectors, (m, c).
        eps: rounding unit of the basis.

    Returns:
        The vectors V in coordinates of the Ritz vectors, (m, k), and the part of AV outside the
        space, in coordinates of the next block, (b', k).
    """
    Q = _subspace(space.values, start, space.steps, eps)
    values, vectors = eigh(Q.mT @ (space.values[:, None] * Q))
    V = Q @ vectors
    residual = (space.values[:, None] - values) * V
    size = (residual.square().sum(0) + space.outside(V).square().sum(0)).sqrt()
    V = V[:, size <= _CONVERGED * values]
    return V, space.outside(V)


def _subspace(values: Tensor, start: Tensor, steps: int, eps: float) -> Tensor:
    """Orthonormal basis of a block Krylov space of diag(values), without rounding noise, (m, k).

    Rounding errors lie in all of the m dimensions, also in those of the probes that the space must
    not depend on. A tracer, which is noise larger than rounding errors, is therefore
    added to each product, in coordinates of its own. The recurrence amplifies it as it amplifies
    rounding errors. Directions that contain more than a thousandth of it are left out.

    Args:
        values: eigenvalues of the operator, (m,).
        start: starting columns, (m, c).
        steps: number of blocks.
        eps: rounding unit of the operator's products.
    """
    m, generator = len(values), torch.Generator().manual_seed(0)
    twice = torch.cat([values, values])[:, None]
    W = torch.cat([start, torch.zeros_like(start)])
    size = torch.linalg.matrix_norm(start, 2)
    basis, width = W[:, :0], 0
    for step in range(steps):
        if step:
            W = twice * basis[:, -width:]
            size = W.norm(dim=0).max()
        noise = torch.randn(m, W.shape[1], generator=generator, dtype=torch.float64).to(W)
        W[m:] += (_TRACER * eps / m**0.5) * size * noise
        inner = basis[:m]
        W[m:] -= inner @ (inner.mT @ W[m:])  # as rounding errors are
        for _ in range(2):
            W = W - basis @ (basis.mT @ W)
        Q, R = torch.linalg.qr(W)
        left, singular, _ = torch.linalg.svd(R)
        Q = Q @ left[:, singular > 32 * eps * size]
        traced, turn = eigh(Q[m:].mT @ Q[m:])
        Q = Q @ turn[:, traced <= _TRACED**2]
        width = Q.shape[1]
        if not width:
            break
        basis = torch.cat([basis, Q], 1)
    return torch.linalg.qr(basis[:m])[0]

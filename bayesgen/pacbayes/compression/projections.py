"""Random linear maps from a few coordinates to all weights of a network, drawn from a seed."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Projection = Callable[[Tensor], Tensor]
Maker = Callable[[int, int, Tensor, torch.Generator, Tensor], Projection]

# Number of non-zero entries in a row of a sparse projection.
_SPARSE = 4


def kronecker(
    D: int, k: int, gains: Tensor, generator: torch.Generator, like: Tensor
) -> Projection:
    """The map P = diag(gains) (A ⊗ B), cut to D × k: Pz = gains · vec(A Z Bᵀ), Z the matrix of z.

    A (a, r) and B (b, c) have independent normal entries of variance 1/r and 1/c. With ab ≥ D and
    rc ≥ k, both nearly square, drawing and applying them takes O(√(Dk)) numbers.

    Args:
        D: number of weights.
        k: number of coordinates.
        gains: factor of each weight, (D,).
        generator: generator of the entries, on the CPU.
        like: tensor whose dtype and device P takes.

    Source: Lotfi et al. (2022), section 4.1.
    """
    a, r = math.isqrt(D - 1) + 1, math.isqrt(k - 1) + 1
    b, c = -(-D // a), -(-k // r)
    A = torch.randn(a, r, generator=generator, dtype=torch.float64) / math.sqrt(r)
    B = torch.randn(b, c, generator=generator, dtype=torch.float64) / math.sqrt(c)
    A, B, gains = A.to(like), B.to(like), gains.to(like)

    def project(z: Tensor) -> Tensor:
        Z = torch.nn.functional.pad(z, (0, r * c - k)).reshape(r, c)
        return gains * (A @ Z @ B.mT).reshape(-1)[:D]

    return project


def sparse(D: int, k: int, gains: Tensor, generator: torch.Generator, like: Tensor) -> Projection:
    """A map whose rows have four entries ±½ at random coordinates.

    Args:
        D, k, gains, generator, like: as in `kronecker`.

    Source: Li et al. (2018), section S7, after Achlioptas (2003).
    """
    index = torch.randint(k, (_SPARSE, D), generator=generator).to(like.device)
    signs = 2.0 * torch.randint(2, (_SPARSE, D), generator=generator) - 1
    signs = (signs * gains / math.sqrt(_SPARSE)).to(like)

    def project(z: Tensor) -> Tensor:
        return (z[index] * signs).sum(0)

    return project


def identity(D: int, k: int, gains: Tensor, _: torch.Generator, like: Tensor) -> Projection:
    """The map Pz = gains · z of all D weights; the dimension k must be D.

    Raises:
        ValueError: it is not.
    """
    check_complete(D, k)
    gains = gains.to(like)

    def project(z: Tensor) -> Tensor:
        return gains * z

    return project


def check_complete(D: int, k: int) -> None:
    """Check that the dimension k of the projection `identity` is the number of weights D.

    Raises:
        ValueError: it is not.
    """
    if k != D:
        raise ValueError(
            f"dimension must be the number of weights, {D:,}, for the projection 'identity', got "
            f"{k:,}"
        )


PROJECTIONS: dict[str, Maker] = {"kronecker": kronecker, "sparse": sparse, "identity": identity}

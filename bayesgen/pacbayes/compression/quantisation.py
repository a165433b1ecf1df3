"""Quantisation of coordinates to learnt levels, with gradients passed through the rounding."""

from __future__ import annotations

import torch
from torch import Tensor


def quantiles(z: Tensor, levels: int) -> Tensor:
    """Initial levels: means of runs of equal counts of the sorted entries of z."""
    ordered = z.sort().values
    return torch.stack([part.mean() for part in ordered.tensor_split(levels)])


def evenly_spaced(z: Tensor, levels: int) -> Tensor:
    """Initial levels: an even grid about zero that covers 2.5 root mean squares of z."""
    end = 2.5 * z.square().mean().sqrt()
    return torch.linspace(-1, 1, levels, dtype=z.dtype, device=z.device) * end


def lengths(z: Tensor, codebook: Tensor, entropy: float) -> Tensor:
    """Penalty of each level from its code length, estimated from how often it is the nearest."""
    if entropy <= 0:
        return torch.zeros_like(codebook)
    nearest = assign(z, codebook, torch.zeros_like(codebook))
    counts = torch.bincount(nearest, minlength=len(codebook)).to(z) + 1
    spread = z.var()
    return -entropy * spread * (counts / counts.sum()).log2()


def assign(z: Tensor, codebook: Tensor, penalties: Tensor) -> Tensor:
    """Index of the level of least squared distance plus penalty for each entry of z."""
    return ((z[:, None] - codebook).square() + penalties).argmin(1)


def symbols(z: Tensor, codebook: Tensor, entropy: float) -> Tensor:
    """Index of the level of each entry of z, with the code lengths weighted by `entropy`."""
    with torch.no_grad():
        return assign(z, codebook, lengths(z, codebook, entropy))


def rounded(z: Tensor, codebook: Tensor, entropy: float) -> Tensor:
    """The level of each entry, with the gradient passed to both the level and z."""
    return codebook[symbols(z, codebook, entropy)] + (z - z.detach())

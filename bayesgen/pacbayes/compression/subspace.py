"""The weights of an architecture in a random subspace, w = w₀ + Pz, drawn from a seed."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bayesgen.networks.copies import other_names
from bayesgen.networks.inputs import call_at
from bayesgen.pacbayes.compression.projections import PROJECTIONS, Projection


@dataclass(frozen=True)
class Subspace:
    """The weights w = w₀ + Pz of one architecture.

    Attributes:
        net: the architecture.
        origin: w₀, (D,).
        projection: the function z → Pz.
    """

    net: nn.Module
    origin: Tensor
    projection: Projection

    @classmethod
    def of(
        cls, net: nn.Module, dimension: int, projection: str, seed: int, like: Tensor
    ) -> Subspace:
        """Build w₀ and P from a seed: w₀ as in He et al. (2015), with zero biases.

        A module with an attribute `initial_scale` has its part of w₀ multiplied by it. A parameter
        that several modules share takes the scale of the first of them.

        Args:
            net: the architecture.
            dimension: number of coordinates of z.
            projection: a name in `PROJECTIONS`.
            seed: seed of w₀ and P.
            like: tensor whose dtype and device w₀ and P take.
        """
        make = PROJECTIONS[projection]
        generator = torch.Generator().manual_seed(seed)
        scales: dict[int, float] = {}
        for module in net.modules():
            for p in module.parameters(recurse=False):
                scales.setdefault(id(p), float(getattr(module, "initial_scale", 1.0)))
        parts, gains = [], []
        for p in net.parameters():
            fan_in = p[0].numel() if p.ndim > 1 else 1
            sd = scales[id(p)] * math.sqrt(2 / fan_in) if p.ndim > 1 else 0.0
            drawn = torch.randn(p.numel(), generator=generator, dtype=torch.float64)
            parts.append(sd * drawn)
            # Scale each direction so that it changes a layer in proportion to the size of its
            # weights.
            gains.append(
                torch.full((p.numel(),), math.sqrt(1 / max(fan_in, 16)), dtype=torch.float64)
            )
        D = sum(len(part) for part in parts)
        return cls(
            net, torch.cat(parts).to(like), make(D, dimension, torch.cat(gains), generator, like)
        )

    def weights(self, z: Tensor) -> Tensor:
        """The weights w at z, (D,)."""
        return self.origin + self.projection(z)

    def outputs(self, z: Tensor, x: Tensor) -> Tensor:
        """Outputs of the network at z for inputs x."""
        return call_at(self.net, self._named(self.weights(z)), other_names(self.net), x)

    def module(self, z: Tensor) -> nn.Module:
        """A copy of the network with the weights at z."""
        net = copy.deepcopy(self.net)
        with torch.no_grad():
            named = self._named(self.weights(z))
            for name, p in net.named_parameters():
                p.copy_(named[name])
        return net

    def _named(self, w: Tensor) -> dict[str, Tensor]:
        named = list(self.net.named_parameters())
        parts = w.split([p.numel() for _, p in named])
        return {name: part.view_as(p) for (name, p), part in zip(named, parts, strict=True)}

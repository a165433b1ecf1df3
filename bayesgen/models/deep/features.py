"""A network's outputs as features: computed, and differentiated, some observations at a time."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class Bounded(nn.Module):
    """W·min(1, c/‖W‖₂): a weight whose spectral norm is at most c.

    A convolution's weight counts as the matrix (out, in·k²); its norm as an operator on images is
    at most k times as large (Tsuzuku et al. 2018, lemma 1).

    Source: Gouk et al. (2021), eq. 9; van Amersfoort et al. (2021), section 3.
    """

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, weight: Tensor) -> Tensor:
        """A weight of any shape, outputs first."""
        norm = torch.linalg.matrix_norm(weight.flatten(1), 2)
        return weight * (self.limit / norm).clamp(max=1)


class DeepFeatures:
    """φ(x) of a network's copy in evaluation mode: BatchNorm's statistics as they stand.

    Args:
        net: inputs (n, …) to features (n, D).
        batch: observations a pass.
        lipschitz: the largest spectral norm of each linear or convolutional layer; None for any.
    """

    def __init__(self, net: nn.Module, batch: int, lipschitz: float | None = None) -> None:
        self.net = copy.deepcopy(net).eval()
        self.batch = batch
        if lipschitz is not None:
            for module in self.net.modules():
                if isinstance(module, nn.Linear | nn.Conv2d):
                    parametrize.register_parametrization(module, "weight", Bounded(lipschitz))

    def parameters(self) -> list[nn.Parameter]:
        """Those that are trained."""
        return [p for p in self.net.parameters() if p.requires_grad]

    def __call__(self, x: Tensor) -> Tensor:
        """φ(x), (n, D), float64, without a graph.

        Raises:
            ValueError: outputs of another shape.
        """
        with torch.no_grad():
            phi = torch.cat([self.net(rows) for rows in x.split(self.batch)])
        if phi.ndim != 2 or len(phi) != len(x):
            raise ValueError(
                f"net must map {len(x)} inputs to features of shape ({len(x)}, D), "
                f"got {tuple(phi.shape)}"
            )
        return phi.double()

    def pull(self, x: Tensor, gradient: Tensor) -> None:
        """Add ⟨gradient, ∂φ/∂w⟩ to the gradients of the parameters, by another pass."""
        rows = zip(x.split(self.batch), gradient.split(self.batch), strict=True)
        with torch.enable_grad():
            for some, weights in rows:
                phi = self.net(some)
                phi.backward(weights.to(phi))

    def frozen(self) -> nn.Module:
        """A copy with plain weights, whatever bounded them."""
        net = copy.deepcopy(self.net)
        for module in net.modules():
            if parametrize.is_parametrized(module):
                parametrize.remove_parametrizations(module, "weight")
        return net

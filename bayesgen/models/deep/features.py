"""Compute and differentiate the features of a network, in batches of observations."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class Bounded(nn.Module):
    """Parametrisation W·min(1, c/‖W‖₂) of a weight, whose spectral norm is then at most c.

    The weight of a convolution is treated as the matrix (out, in·k²). The norm of the convolution
    as an operator on images is at most k times as large (Tsuzuku et al. 2018, lemma 1).

    Source: Gouk et al. (2021), eq. 9; van Amersfoort et al. (2021), section 3.
    """

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, weight: Tensor) -> Tensor:
        """The bounded weight, for a weight of any shape whose first axis is the outputs."""
        norm = torch.linalg.matrix_norm(weight.flatten(1), 2)
        return weight * (self.limit / norm).clamp(max=1)


class DeepFeatures:
    """The features φ(x) of a copy of a network in evaluation mode.

    Args:
        net: module from inputs (n, …) to features (n, D).
        batch: observations per pass.
        lipschitz: largest spectral norm of each linear or convolutional layer; None sets no bound.
    """

    def __init__(self, net: nn.Module, batch: int, lipschitz: float | None = None) -> None:
        self.net = copy.deepcopy(net).eval()
        self.batch = batch
        if lipschitz is not None:
            for module in self.net.modules():
                if isinstance(module, nn.Linear | nn.Conv2d):
                    parametrize.register_parametrization(module, "weight", Bounded(lipschitz))

    def parameters(self) -> list[nn.Parameter]:
        """The parameters of the network that are trained."""
        return [p for p in self.net.parameters() if p.requires_grad]

    def __call__(self, x: Tensor) -> Tensor:
        """The features φ(x), (n, D), float64, detached from the parameters.

        Raises:
            ValueError: the network's outputs do not have shape (n, D).
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
        """Add the vjp ⟨gradient, ∂φ/∂w⟩ to the gradients of the parameters, by another pass."""
        rows = zip(x.split(self.batch), gradient.split(self.batch), strict=True)
        with torch.enable_grad():
            for some, weights in rows:
                phi = self.net(some)
                phi.backward(weights.to(phi))

    def frozen(self) -> nn.Module:
        """A copy of the network with plain weights, without the parametrisation."""
        net = copy.deepcopy(self.net)
        for module in net.modules():
            if parametrize.is_parametrized(module):
                # torch deletes a property of the module's class, which a copy shares.
                kind = type(module)
                module.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))
                parametrize.remove_parametrizations(module, "weight")
        return net

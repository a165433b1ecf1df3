"""Compute and differentiate the features of a network, in batches of observations."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from bayesgen.models.deep.bounded import bound, with_plain_weights
from bayesgen.networks.copies import detached_copies
from bayesgen.networks.gradients import Passes, parameters, trainable_copy
from bayesgen.networks.inputs import joined


class DeepFeatures:
    """The features φ(x) of a copy of a network in evaluation mode.

    Args:
        net: module from inputs (n, …) to features (n, D), or (n,) for one feature.
        batch: observations per pass.
        x: inputs, of which at most two are used here.
        lipschitz: largest spectral norm of each layer; None sets no bound. See `bound`.

    Raises:
        TypeError, ValueError: the network fails on the inputs, or its outputs do not have shape
            (n, D); a layer has weights that cannot be bounded.
    """

    def __init__(self, net: nn.Module, batch: int, x: Any, lipschitz: float | None = None) -> None:
        self.net = trainable_copy(net)
        self.batch = batch
        if lipschitz is not None:
            bound(self.net, lipschitz)
        self.run = Passes(self.net, x, "features", net)

    def parameters(self) -> list[nn.Parameter]:
        """The parameters of the network that are trained."""
        return parameters(self.net)

    def __call__(self, x: Any) -> Tensor:
        """The features φ(x), (n, D), float64, detached from the parameters.

        Raises:
            ValueError: the network's outputs do not have shape (n, D).
        """
        return joined([self.run.values(rows).double() for rows in x.split(self.batch)])

    def pull(self, x: Any, gradient: Tensor) -> None:
        """Add the vjp ⟨gradient, ∂φ/∂w⟩ to the gradients of the parameters, by another pass."""
        rows = zip(x.split(self.batch), gradient.split(self.batch), strict=True)
        with torch.enable_grad():
            for some, weights in rows:
                phi = self.run(some)
                phi.backward(weights.to(phi))

    def frozen(self) -> nn.Module:
        """A copy of the network with plain weights, without parametrisations."""
        net = copy.deepcopy(self.net, detached_copies(self.net))
        with_plain_weights(net)
        return net

"""Check of Kronecker factors: the weights of a layer must be used in its own calls alone.

The gradient of a layer's weights is Σ gaᵀ over its inputs a and the gradients g at its outputs.
With the gradients for r = ∂ log p(y | f)/∂f it must be the layer's part of ∇ log p(D | θ), which
reverse passes through the whole network give.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from bayesgen.curvature.gradient_check import GradientCheck
from bayesgen.curvature.jacobian import Sample
from bayesgen.curvature.jacobian_rows import Pass, ends
from bayesgen.curvature.parameters import Leaf, Weights

NO_FACTORS = (
    'curvature "kron" needs linear layers and convolutions whose weights are used once, in the '
    "call of the layer, but layer {!r} shares its weights or is called in another way; use "
    'curvature "ggn", "diag" or "last_layer"'
)


class FactorCheck:
    """Sums the gradients of factored layers over all batches.

    Args:
        weights: weights of the network.
        sample: the observations; without `Sample.coefficients` nothing is checked.
        leaves: linear layers and ungrouped convolutions.
    """

    def __init__(self, weights: Weights, sample: Sample, leaves: list[Leaf]) -> None:
        self.sample, self.leaves = sample, leaves
        self.sums = GradientCheck(weights, sample)

    def add(self, passed: Pass, vectors: Tensor, some: slice) -> None:
        """Add one batch, by one more reverse pass.

        Args:
            passed: the forward pass of the batch.
            vectors: V diag(w)^½ of each observation, (b, C, K).
            some: the observations.
        """
        if self.sample.coefficients is None:
            return
        slopes = torch.einsum("nck,nk->nc", vectors, self.sample.coefficients[some].to(vectors))
        gradients = passed.gradients(slopes[..., None])
        for leaf in self.leaves:
            for inputs, g in gradients[leaf.name]:
                self._add(leaf, inputs, g[0])

    def _add(self, leaf: Leaf, inputs: Tensor, g: Tensor) -> None:
        module, own = leaf.module, {}
        if isinstance(module, nn.Conv2d):
            padded = nn.functional.pad(inputs, ends(module))
            shape = module.weight.shape
            settings = {"stride": module.stride, "dilation": module.dilation}
            own["weight"] = conv2d_weight(padded, shape, g, **settings)
            own["bias"] = g.sum((0, 2, 3))
        else:
            flat = g.reshape(-1, g.shape[-1])
            own["weight"] = flat.mT @ inputs.reshape(-1, inputs.shape[-1])
            own["bias"] = flat.sum(0)
        for name, columns in leaf.columns.items():
            value = own[name].reshape(-1).double()
            self.sums.found[columns] += value
            self.sums.squares[columns] += value.square()

    def settle(self) -> None:
        """Compare the sums with the gradient of the log likelihood.

        Raises:
            ValueError: the weights of a layer are used elsewhere.
        """
        wrong = self.sums.differing(self.leaves)
        if wrong:
            raise ValueError(NO_FACTORS.format(min(wrong)))

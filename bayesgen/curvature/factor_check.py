"""Check of Kronecker factors: the weights of a layer must be used in its own calls alone.

The gradient of a layer's weights is Σ gaᵀ over its inputs a and the gradients g at its outputs.
With the gradients for r = ∂ log p(y | f)/∂f it must be the layer's part of ∇ log p(D | θ), which
reverse passes through the whole network give. The two are compared for random u and v, by
Σ (uᵀg)(aᵀv), which costs little beside the factors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bayesgen import verify
from bayesgen.curvature.jacobian import Sample
from bayesgen.curvature.jacobian_rows import Pass, ends
from bayesgen.curvature.parameters import Leaf, Weights

NO_FACTORS = (
    'curvature "kron" needs linear layers and convolutions whose weights are used once, in the '
    "call of the layer, but layer {!r} shares its weights or is called in another way; use "
    'curvature "ggn", "diag" or "last_layer"'
)


class FactorCheck:
    """Sums (uᵀg)(aᵀv) of factored layers over all batches.

    Attributes:
        left: the vector u of each layer, (out,).

    Args:
        weights: weights of the network.
        sample: the observations; without `Sample.coefficients` nothing is checked.
        leaves: linear layers and ungrouped convolutions.
    """

    def __init__(self, weights: Weights, sample: Sample, leaves: list[Leaf]) -> None:
        self.weights, self.sample, self.leaves = weights, sample, leaves
        self.sums: dict[str, Tensor] = {}
        self.sizes: dict[str, Tensor] = {}
        self.left = {leaf.name: _left(leaf) for leaf in leaves}

    def batch(self, passed: Pass, vectors: Tensor, some: Tensor | slice) -> FactorBatch:
        """The check of one batch.

        Args:
            passed: the forward pass of the batch.
            vectors: V diag(w)^½ of each observation, (b, C, K).
            some: the observations.
        """
        c = self.sample.coefficients
        return FactorBatch(self, passed, vectors, None if c is None else c[some].to(vectors))

    def right(self, leaf: Leaf) -> Tensor:
        """The vector v of a layer, of the shape of one row of its weight, (1, in, …)."""
        weight: Tensor = leaf.module.weight  # type: ignore[assignment]
        return verify.random_vector(weight[0].numel(), weight, seed=4).reshape(weight[:1].shape)

    def include(self, leaf: Leaf, inputs: Tensor, turned: Tensor) -> None:
        """Add a call of a layer.

        Args:
            leaf: the layer.
            inputs: its inputs, (b, …).
            turned: uᵀg for the gradients g for r at its outputs, (b, …) without the axis of
                channels.
        """
        module = leaf.module
        if "weight" not in leaf.columns:
            seen = torch.ones_like(turned)
        elif isinstance(module, nn.Conv2d):
            padded = nn.functional.pad(inputs, ends(module))
            seen = nn.functional.conv2d(
                padded, self.right(leaf), stride=module.stride, dilation=module.dilation
            )
        else:
            seen = inputs @ self.right(leaf)[0]
        if "bias" in leaf.columns and "weight" in leaf.columns:
            seen = seen + 1
        t, s = turned.reshape(-1).double(), seen.reshape(-1).double()
        zero = t.new_zeros(())
        self.sums[leaf.name] = self.sums.get(leaf.name, zero) + t @ s
        self.sizes[leaf.name] = self.sizes.get(leaf.name, zero) + t.norm() * s.norm()

    def settle(self) -> None:
        """Compare the sums with the gradient of the log likelihood.

        Raises:
            ValueError: the weights of a layer are used elsewhere.
        """
        gradient = self.sample.gradient
        if self.sample.coefficients is None or gradient is None:
            return
        eps = torch.finfo(self.weights.theta.dtype).eps
        for leaf in self.leaves:
            u, want = self.left[leaf.name].double(), gradient.new_zeros(())
            if "weight" in leaf.columns:
                own = gradient[leaf.columns["weight"]].reshape(len(u), -1)
                want = u @ own @ self.right(leaf).reshape(-1).double()
            if "bias" in leaf.columns:
                want = want + u @ gradient[leaf.columns["bias"]]
            gap = (self.sums.get(leaf.name, 0.0) - want).abs()
            if not bool(gap <= eps**0.4 * (self.sizes.get(leaf.name, 0.0) + eps)):
                raise ValueError(NO_FACTORS.format(leaf.name))


class FactorBatch:
    """The products uᵀg for r at the outputs of factored layers, from those for V diag(w)^½.

    A layer whose first axis is not that of the observations, in their order, needs one more reverse
    pass.

    Args:
        check: the check that the batch belongs to.
        passed: the forward pass of the batch.
        vectors: V diag(w)^½ of each observation, (b, C, K).
        coefficients: c with V diag(w)^½ c = r, (b, K); None where nothing is checked.
    """

    def __init__(
        self, check: FactorCheck, passed: Pass, vectors: Tensor, coefficients: Tensor | None
    ) -> None:
        self.check, self.passed, self.vectors = check, passed, vectors
        self.coefficients, self.done = coefficients, 0
        other = passed.broken | check.weights.direct
        self.simple = [leaf for leaf in check.leaves if leaf.name not in other]
        self.rest = [leaf for leaf in check.leaves if leaf.name in other]
        self.totals: dict[tuple[str, int], Tensor] = {}

    def add(self, gradients: dict[str, list[Tensor]]) -> None:
        """Add the gradients (k, b, …) for the next k of the K vectors."""
        if self.coefficients is None or not gradients:
            return
        count = next((len(each[0]) for each in gradients.values() if each), 0)
        c = self.coefficients[:, self.done : self.done + count].mT
        self.done += count
        for leaf in self.simple:
            for number, g in enumerate(gradients[leaf.name]):
                turned = self._turned(leaf, g)
                # A linear layer may have several rows for each observation.
                rows = c.repeat_interleave(turned.shape[1] // c.shape[1], 1)
                part = torch.einsum("kb,kb...->b...", rows, turned)
                key = leaf.name, number
                self.totals[key] = self.totals[key] + part if key in self.totals else part

    def settle(self) -> None:
        """Include the batch in the check."""
        if self.coefficients is None:
            return
        for leaf in self.simple:
            for number, (inputs, _) in enumerate(self.passed.calls[leaf.name]):
                self.check.include(leaf, inputs, self.totals[leaf.name, number])
        if self.rest:
            slopes = torch.einsum("nck,nk->nc", self.vectors, self.coefficients)
            gradients = self.passed.gradients(slopes[..., None])
            for leaf in self.rest:
                for inputs, g in gradients[leaf.name]:
                    self.check.include(leaf, inputs, self._turned(leaf, g)[0])

    def _turned(self, leaf: Leaf, g: Tensor) -> Tensor:
        """The products uᵀg, (k, b, …), for gradients (k, b, …)."""
        if isinstance(leaf.module, nn.Conv2d):
            return torch.einsum("kbohw,o->kbhw", g, self.check.left[leaf.name])
        return g @ self.check.left[leaf.name]


def _left(leaf: Leaf) -> Tensor:
    """The vector u of a layer, (out,)."""
    like = next(iter(leaf.module.parameters(recurse=False)))
    return verify.random_vector(len(like), like, seed=3)[:, 0]

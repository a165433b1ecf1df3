"""Read the data of a network's Laplace approximation, from tensors or from a checked loader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bayesgen._internal import checks
from bayesgen._internal.hashing import fingerprint
from bayesgen.curvature.jacobian import Sample
from bayesgen.curvature.parameters import Weights
from bayesgen.likelihoods.likelihood import Likelihood, with_noise
from bayesgen.posterior.posterior import Observed


class Batches:
    """Batches (x, y), with x in the network's dtype and y in the likelihood's inner form.

    They can be iterated any number of times.

    Args:
        source: a loader, or a list that holds one pair of tensors.
        y: targets in their inner form, (n, ...), in the order of the source.
        size: observations per batch for a pair of tensors; None keeps the batches of a loader.
        dtype: dtype of x.
    """

    def __init__(self, source: Any, y: Tensor | None, size: int | None, dtype: torch.dtype) -> None:
        self.source, self.y, self.size, self.dtype = source, y, size, dtype

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate once over the batches, with targets in their inner form."""
        assert self.y is not None
        start = 0
        for x, _ in self.pairs():
            yield x, self.y[start : start + len(x)]
            start += len(x)

    def pairs(self) -> Iterator[tuple[Tensor, Any]]:
        """Iterate once over the batches, with targets as the source gives them."""
        for x, y in self.source:
            x = inputs(x)
            pieces = [x] if self.size is None else x.split(self.size)
            start = 0
            for piece in pieces:
                yield piece.to(self.dtype), y[start : start + len(piece)]
                start += len(piece)


@dataclass(frozen=True)
class NetworkData:
    """Observations with the network's outputs at them.

    Attributes:
        x: inputs, (n, …), or None where the loader's batches are not kept.
        y: targets in the likelihood's inner form, (n, ...).
        f: outputs, (n, C).
        shape: shape of the targets as the user gave them.
        likelihood: the likelihood, with its number of classes set.
        gradient: ∇ log p(D | θ) at unit noise variance, (P,), float64.
        batches: the same observations in batches.
        features: inputs of the last layer, (n, d), where the curvature is of that layer only; else
            None.
    """

    x: Tensor | None
    y: Tensor
    f: Tensor
    shape: torch.Size
    likelihood: Likelihood
    gradient: Tensor
    batches: Batches
    features: Tensor | None

    def log_likelihood(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The log likelihood log p(D | θ) and its derivative in log σ²; both float64."""
        f = self.f.double()
        y, own = self.y.to(f), self.likelihood
        if own.gaussian_noise:
            own = with_noise(own, noise.log())
        return own.log_density(y, f).sum(), own.noise_slope(y, f)

    def sample(self, batch: int, memory: float) -> Sample | None:
        """The inputs with the likelihood's curvature Λ in eigenpairs, at unit noise variance.

        Args:
            batch: observations per pass.
            memory: bytes that rows of the Jacobian may take.

        Returns:
            The `Sample`, or None where the inputs were not kept.
        """
        if self.x is None:
            return None
        values, vectors = unit(self.likelihood).roots(self.y, self.f)
        return Sample(self.x, values, vectors, batch, memory)

    def observed(self, likelihood: Likelihood) -> Observed:
        """The targets as a posterior keeps them."""
        return Observed(self.y[None], self.shape, False, likelihood)

    @property
    def rows(self) -> int:
        """Number of rows of the scaled Jacobian Λ^½J."""
        n, C = self.f.shape
        return n * self.likelihood.identified(C).shape[1]


def unit(likelihood: Likelihood) -> Likelihood:
    """The likelihood with unit noise variance, where it has a noise variance."""
    noise = likelihood.log_noise
    return with_noise(likelihood, None if noise is None else torch.zeros_like(noise))


def inputs(x: Any) -> Tensor:
    """Check inputs (n, …): real, finite, with at least one row."""
    x = checks.real("x", x)
    if x.ndim < 2 or x.numel() == 0:
        raise ValueError(f"x must have shape (n, …) with n ≥ 1, got {tuple(x.shape)}")
    return x


def read(
    weights: Weights, likelihood: Likelihood, x: Any, y: Any, batch: int, gather: bool
) -> NetworkData:
    """Read data and compute the network's outputs and gradient, in one pass over the data.

    Args:
        weights: weights of the network.
        likelihood: likelihood as the user gave it.
        x: inputs (n, …), or a loader of batches (x, y).
        y: targets, or None with a loader.
        batch: observations per pass, for tensors.
        gather: True keeps a loader's inputs; False reads the loader again in every pass, and checks
            that its batches are always the same.

    Raises:
        TypeError, ValueError: as in `Laplace.fit`.
    """
    theta, kept, prints = weights.theta, None, None
    if y is None:
        loader = Batches(_loader(x), None, None, theta.dtype)
        first, pieces, targets, marks = theta.new_empty(0), [], [], []
        for some, target in loader.pairs():
            _same_device(some, theta)
            first = first if len(first) else some[:1]
            targets.append(checks.as_tensor("y", target))
            if gather:
                pieces.append(some)
            else:
                marks.append(fingerprint(some))
        if not targets:
            raise ValueError("x must hold at least one batch, got an empty loader")
        y, n = torch.cat(targets), sum(map(len, targets))
        if gather:
            kept = torch.cat(pieces)
            batches = Batches([(kept, y)], None, len(pieces[0]), theta.dtype)
        else:
            batches, prints = loader, marks
    else:
        kept = inputs(x).to(theta.dtype)
        _same_device(kept, theta)
        y, first, n = checks.as_tensor("y", y), kept[:1], len(kept)
        batches = Batches([(kept, y)], None, batch, theta.dtype)
    like = weights.outputs(first, 1).expand(n, -1)
    likelihood = likelihood.for_outputs(like.shape[1], y.shape)
    inner = likelihood.targets(y, like)
    if len(inner) != 1:
        raise ValueError(f"y must be of one task, got a batch in shape {tuple(y.shape)}")
    batches.y = inner[0]
    passed = _Pass(weights, unit(likelihood))
    for some, target in batches:
        if prints is not None and (not prints or prints.pop(0) != fingerprint(some)):
            raise ValueError(
                "the loader must give the same batches in every pass, but its second pass differs "
                "from the first: a curvature that is used only through its products needs "
                "shuffle=False and no random augmentation"
            )
        passed.add(some, target)
    return NetworkData(
        kept,
        inner[0],
        torch.cat(passed.outputs),
        y.shape,
        likelihood,
        passed.gradient,
        batches,
        torch.cat(passed.features) if passed.features else None,
    )


class _Pass:
    """Accumulates the outputs, the gradient and the last layer's inputs of one pass.

    The last layer's inputs are kept only where the weights are those of the last layer.
    """

    def __init__(self, weights: Weights, likelihood: Likelihood) -> None:
        self.weights, self.likelihood = weights, likelihood
        self.outputs: list[Tensor] = []
        self.features: list[Tensor] = []
        self.gradient = torch.zeros_like(weights.theta, dtype=torch.float64)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add one batch, with y in its inner form."""
        weights, seen = self.weights, []
        theta = weights.theta.clone().requires_grad_()
        last = weights.leaves[0].module if weights.partial else None

        def look(_: nn.Module, given: Any, output: Tensor) -> None:
            seen.append((given[0].detach(), output))

        handle = None if last is None else last.register_forward_hook(look)
        try:
            with torch.enable_grad():
                f = functional_call(weights.net, weights.unpacked(theta), (weights.laid_out(x),))
                value = self.likelihood.log_density(y, weights.checked(f, len(x))).sum()
                self.gradient += torch.autograd.grad(value, theta)[0].double()
        finally:
            if handle is not None:
                handle.remove()
        self.outputs.append(f.detach())
        if last is not None:
            if len(seen) != 1 or not torch.equal(seen[0][1], f):
                raise ValueError(
                    f"the last linear layer, {weights.leaves[0].name!r}, must give the network's "
                    "outputs without further layers"
                )
            self.features.append(seen[0][0])


def _same_device(x: Tensor, theta: Tensor) -> None:
    if x.device != theta.device:
        raise ValueError(
            f"x is on device {x.device} but the network is on {theta.device}; move one of them "
            "explicitly"
        )


def _loader(x: Any) -> Any:
    if isinstance(x, Tensor) or not isinstance(x, Iterable):
        raise TypeError(
            "y must be given with x, or x must be a loader of batches (x, y), "
            f"got {type(x).__name__}"
        )
    if iter(x) is x:
        raise TypeError("x must be a loader that can be read more than once, got an iterator")
    return x

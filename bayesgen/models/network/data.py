"""A network's data as Laplace's approximation reads them: tensors, or a loader that is checked."""

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
    """Batches (x, y) of the network's dtype, y in the likelihood's inner form, at every pass.

    Args:
        source: tensors as a list of one pair, or a loader.
        y: targets in their inner form, (n, ...), in the order of the source.
        size: observations a batch, where the source is one pair of tensors; None keeps a loader's.
        dtype: of x.
    """

    def __init__(self, source: Any, y: Tensor | None, size: int | None, dtype: torch.dtype) -> None:
        self.source, self.y, self.size, self.dtype = source, y, size, dtype

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass."""
        assert self.y is not None
        start = 0
        for x, _ in self.pairs():
            yield x, self.y[start : start + len(x)]
            start += len(x)

    def pairs(self) -> Iterator[tuple[Tensor, Any]]:
        """One pass, with the targets as they come."""
        for x, y in self.source:
            x = inputs(x)
            pieces = [x] if self.size is None else x.split(self.size)
            start = 0
            for piece in pieces:
                yield piece.to(self.dtype), y[start : start + len(piece)]
                start += len(piece)


@dataclass(frozen=True)
class NetworkData:
    """Observations with what the network makes of them.

    Attributes:
        x: inputs, (n, …); None where only batches are at hand.
        y: targets in the likelihood's inner form, (n, ...).
        f: outputs, (n, C).
        shape: of the targets as they came.
        likelihood: that knows the number of classes.
        gradient: ∇ log p(D | θ) at unit noise, (P,), float64.
        batches: the same observations, batch by batch.
        features: what enters the last layer, (n, d), where it is looked at alone.
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
        """log p(D | θ), and its derivative in log σ²; both float64."""
        f = self.f.double()
        y, own = self.y.to(f), self.likelihood
        if own.gaussian_noise:
            own = with_noise(own, noise.log())
        return own.log_density(y, f).sum(), own.noise_slope(y, f)

    def sample(self, batch: int, memory: float) -> Sample | None:
        """The observations as their curvature at unit noise sees them."""
        if self.x is None:
            return None
        values, vectors = unit(self.likelihood).roots(self.y, self.f)
        return Sample(self.x, values, vectors, batch, memory)

    def observed(self, likelihood: Likelihood) -> Observed:
        """The targets for a posterior."""
        return Observed(self.y[None], self.shape, False, likelihood)

    @property
    def rows(self) -> int:
        """Rows of Λ^½J."""
        n, C = self.f.shape
        return n * self.likelihood.identified(C).shape[1]


def unit(likelihood: Likelihood) -> Likelihood:
    """The likelihood with unit noise, where it has one."""
    noise = likelihood.log_noise
    return with_noise(likelihood, None if noise is None else torch.zeros_like(noise))


def inputs(x: Any) -> Tensor:
    """Inputs (n, …) of at least one row, real and finite."""
    x = checks.real("x", x)
    if x.ndim < 2 or x.numel() == 0:
        raise ValueError(f"x must have shape (n, …) with n ≥ 1, got {tuple(x.shape)}")
    return x


def read(
    weights: Weights, likelihood: Likelihood, x: Any, y: Any, batch: int, gather: bool
) -> NetworkData:
    """Outputs, targets and gradient of some data, in one pass of the network over them.

    Args:
        weights: of the network.
        likelihood: as it was given.
        x, y: tensors; or a loader and None.
        batch: observations a pass, for tensors.
        gather: whether a loader's inputs are to be kept; else its passes must be alike.

    Raises:
        TypeError, ValueError: see `Laplace.fit`.
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
                "the loader must give the same batches at every pass, its second pass differs from "
                "the first: set shuffle=False, and no random augmentation, for a curvature known "
                "by its products alone"
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
    """One pass of the network: outputs, the gradient, what enters a last layer looked at alone."""

    def __init__(self, weights: Weights, likelihood: Likelihood) -> None:
        self.weights, self.likelihood = weights, likelihood
        self.outputs: list[Tensor] = []
        self.features: list[Tensor] = []
        self.gradient = torch.zeros_like(weights.theta, dtype=torch.float64)

    def add(self, x: Tensor, y: Tensor) -> None:
        """A batch, y in its inner form."""
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
                    "outputs as they are"
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

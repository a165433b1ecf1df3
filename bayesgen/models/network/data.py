"""Read the data of a network's Laplace approximation, from tensors or from a checked loader."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from bayesgen import verify
from bayesgen._internal import checks
from bayesgen._internal.hashing import fingerprint
from bayesgen.curvature.gradient_check import coefficients
from bayesgen.curvature.jacobian import Sample
from bayesgen.curvature.parameters import Weights
from bayesgen.curvature.row_paths import admit
from bayesgen.likelihoods.likelihood import Likelihood, with_noise
from bayesgen.networks import admission
from bayesgen.networks.inputs import converted, joined, read as read_inputs, tensors
from bayesgen.posterior.posterior import Observed

# Number of observations on which a network is checked, and the last layer of one.
_FEW, _FEW_OF_HEAD = 8, 1


class Batches:
    """Batches (x, y), with x in the network's dtype and y in the likelihood's inner form.

    They can be iterated any number of times.

    Args:
        source: a loader, or a list that holds one pair (x, y).
        y: targets in their inner form, (n, ...), in the order of the source.
        size: observations per batch for one pair; None keeps the batches of a loader.
        weights: weights of the network, whose dtype x takes.
    """

    def __init__(self, source: Any, y: Tensor | None, size: int | None, weights: Weights) -> None:
        self.source, self.y, self.size, self.weights = source, y, size, weights

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        """Iterate once over the batches, with targets in their inner form."""
        assert self.y is not None
        start = 0
        for x, _ in self.pairs():
            yield x, self.y[start : start + len(x)]
            start += len(x)

    def pairs(self) -> Iterator[tuple[Any, Any]]:
        """Iterate once over the batches, with targets as the source gives them."""
        for item in self.source:
            x, y = _pair(item)
            x = inputs(
                "x in each batch of the loader" if self.size is None else "x", x, self.weights
            )
            if hasattr(y, "__len__") and len(y) != len(x):
                raise ValueError(
                    f"y must have one entry for each input, got {len(y)} for {len(x)} inputs in a "
                    "batch"
                )
            start = 0
            for piece in [x] if self.size is None else x.split(self.size):
                yield piece, y[start : start + len(piece)]
                start += len(piece)


def _pair(item: Any) -> tuple[Any, Any]:
    """Inputs and targets of one batch."""
    if isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1]
    kind = type(item).__name__
    got = f"a {kind} of length {len(item)}" if hasattr(item, "__len__") else f"a {kind}"
    raise ValueError(
        f"the loader must give pairs (x, y), got {got}; x may itself be a tuple or a dict of "
        "tensors, ((x1, x2), y)"
    )


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
        features: inputs of the last layer, (n, d), where the curvature is of that layer only and
            follows from them; else None.
        checks: comparisons of fast computations with direct ones.
    """

    x: Any
    y: Tensor
    f: Tensor
    shape: torch.Size
    likelihood: Likelihood
    gradient: Tensor
    batches: Batches
    features: Tensor | None
    checks: tuple[verify.Check, ...] = ()

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
        values, vectors = self.roots
        c = coefficients(values, vectors, self.slopes)
        return Sample(self.x, values, vectors, batch, memory, c, self.gradient, self.f)

    def rounding(self, noise: Tensor) -> Tensor:
        """Estimated effect of rounding of the outputs on the log likelihood, (), nats.

        The error of an output is estimated from the difference between outputs of single
        observations and of batches, whose sums have another order, and is at least one rounding
        unit. Errors of different observations are added in quadrature, two deviations wide.

        Args:
            noise: noise variance σ².
        """
        f = self.f.double()
        unit_size = torch.finfo(self.f.dtype).eps * f.square().mean().sqrt()
        size = torch.maximum(self.checks[0].difference * f.abs().max(), unit_size)
        slope, bend = self.slopes.double().norm(), f.new_zeros(())
        with contextlib.suppress(ValueError):  # a likelihood that is not log-concave
            values, vectors = self.roots
            bend = (values * vectors.square().sum(1)).sum().double()
        return (2 * size * slope + 0.5 * size.square() * bend) / noise

    @cached_property
    def roots(self) -> tuple[Tensor, Tensor]:
        """The curvature Λ at unit noise variance; see `Likelihood.roots`."""
        return unit(self.likelihood).roots(self.y, self.f)

    @cached_property
    def slopes(self) -> Tensor:
        """The derivatives ∂ log p(yᵢ | f)/∂f at unit noise variance, (n, C)."""
        with torch.enable_grad():
            f = self.f.detach().requires_grad_()
            value = unit(self.likelihood).log_density(self.y, f).sum()
            return torch.autograd.grad(value, f)[0]

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


def inputs(name: str, x: Any, weights: Weights) -> Any:
    """Check inputs (n, …) of a network: one tensor, or `bayesgen.networks.inputs.Inputs`.

    Floating-point values take the dtype of the weights.

    Raises:
        TypeError, ValueError: the inputs are not finite numbers, have no observation, or are on
            another device than the network.
    """
    x = read_inputs(name, x, weights.net)
    if x.device != weights.theta.device:
        raise ValueError(
            f"{name} is on device {x.device} but the network is on {weights.theta.device}; move "
            "one of them explicitly"
        )
    return converted(x, weights.theta.dtype)


def read(
    weights: Weights,
    likelihood: Likelihood,
    x: Any,
    y: Any,
    batch: int,
    *,
    gather: bool,
    named: bool = False,
    regroup: bool = False,
) -> NetworkData:
    """Read data and compute the network's outputs and gradient, in one pass over the data.

    The network is checked on a few observations, and the path of its Jacobian rows is chosen.

    Args:
        weights: weights of the network.
        likelihood: likelihood as the user gave it.
        x: inputs (n, …), or a loader of batches (x, y).
        y: targets, or None with a loader.
        batch: observations per pass, for tensors.
        gather: True keeps a loader's inputs; False reads the loader again in every pass, and checks
            that its batches are always the same.
        named: whether the user named the layer that the weights are limited to. It need not give
            the network's outputs then.
        regroup: whether all outputs are computed again in other batches, because the curvature has
            no other check of all observations.

    Raises:
        TypeError, ValueError: as in `Laplace.fit`.
    """
    kept: Any = None
    first: Any = None
    prints = None
    if y is None:
        loader = Batches(_loader(x), None, None, weights)
        pieces, targets, marks = [], [], []
        for some, target in loader.pairs():
            first = some if first is None else first
            targets.append(checks.as_tensor("y", target))
            if gather:
                pieces.append(some)
            else:
                marks.append(_print(some))
        if not targets:
            raise ValueError("x must hold at least one batch, got an empty loader")
        y, n = torch.cat(targets), sum(map(len, targets))
        if gather:
            kept = joined(pieces)
            batches = Batches([(kept, y)], None, len(pieces[0]), weights)
        else:
            batches, prints = loader, marks
    else:
        kept = first = inputs("x", x, weights).clone()
        y, n = checks.as_tensor("y", y), len(kept)
        batches = Batches([(kept, y)], None, batch, weights)
    if y.is_floating_point() and weights.theta.dtype == torch.float64:
        y = y.double()
    like = weights.first_outputs(first)[:1].expand(n, -1)
    likelihood = likelihood.for_outputs(like.shape[1], y.shape)
    inner = likelihood.targets(y, like)
    if len(inner) != 1:
        raise ValueError(f"y must be of one task, got a batch in shape {tuple(y.shape)}")
    if len(inner[0]) != n:
        raise ValueError(f"y must have one entry for each of {n} inputs, got {len(inner[0])}")
    batches.y = inner[0]
    passed = _Pass(weights, unit(likelihood), named)
    for some, target in batches:
        if prints is not None and (not prints or prints.pop(0) != _print(some)):
            raise ValueError(
                "the loader must give the same batches in every pass, but its second pass differs "
                "from the first: a curvature that is used only through its products needs "
                "shuffle=False and no random augmentation"
            )
        passed.add(some, target)
    _check_gradient(weights, passed.gradient)
    f = torch.cat(passed.outputs)
    source = first if kept is None else kept
    few = verify.some_rows(len(source), _FEW_OF_HEAD if passed.features else _FEW).to(f.device)
    checked = admit(weights, source[few], f[few])
    if regroup and kept is not None and n > 1:
        admission.same_in_other_batches(weights.evaluate, kept, f, batch)
    exact = passed.features and not weights.direct
    return NetworkData(
        kept,
        inner[0],
        f,
        y.shape,
        likelihood,
        passed.gradient,
        batches,
        torch.cat(passed.features) if exact else None,
        checked,
    )


def _check_gradient(weights: Weights, gradient: Tensor) -> None:
    """Check that the gradient of the log likelihood is finite."""
    for name, columns in weights.slices.items():
        if not bool(torch.isfinite(gradient[columns]).all()):
            raise ValueError(
                f"net must have finite derivatives, but those of {name!r} are not finite at x; a "
                "norm or a square root has none at zero"
            )


def _print(x: Any) -> str:
    return fingerprint(*tensors(x))


class _Pass:
    """Accumulates the outputs, the gradient and the last layer's inputs of one pass.

    The last layer's inputs are kept only where the weights are those of the last layer.
    """

    def __init__(self, weights: Weights, likelihood: Likelihood, named: bool) -> None:
        self.weights, self.likelihood, self.named = weights, likelihood, named
        self.outputs: list[Tensor] = []
        self.features: list[Tensor] = []
        self.gradient = torch.zeros_like(weights.theta, dtype=torch.float64)

    def add(self, x: Any, y: Tensor) -> None:
        """Add one batch, with y in its inner form."""
        weights, seen = self.weights, []
        head = weights.leaves[0] if weights.partial else None

        def look(_: nn.Module, given: Any, output: Tensor) -> None:
            # Copies, because the network may overwrite either tensor.
            seen.append((given[0].detach().clone(), output.detach().clone()))

        handle = None if head is None else weights.head.register_forward_hook(look)
        try:
            with weights.tracking():
                f = weights.checked(weights.evaluate(x))
                value = self.likelihood.log_density(y, f).sum()
                self.gradient += weights.pulled(value, torch.ones_like(value)).double()
        finally:
            if handle is not None:
                handle.remove()
        self.outputs.append(f.detach())
        if head is None:
            return
        last = len(seen) == 1 and _same(seen[0][1], f.detach())
        if not last and not self.named:
            raise ValueError(
                f"the last linear layer, {weights.only!r}, must give the network's outputs without "
                "further layers; name the layer that is meant with last_layer="
            )
        linear = (
            last and type(weights.head) is nn.Linear and set(head.columns) <= {"weight", "bias"}
        )
        if linear and "weight" in head.columns and seen[0][0].ndim == 2:
            self.features.append(seen[0][0])


def _same(output: Tensor, f: Tensor) -> bool:
    """Whether a layer's output is the network's, (n, C), up to an axis of length one."""
    return output.numel() == f.numel() and torch.equal(output.reshape(f.shape), f)


def _loader(x: Any) -> Any:
    if isinstance(x, Tensor) or not isinstance(x, Iterable):
        raise TypeError(
            "y must be given with x, or x must be a loader of batches (x, y), "
            f"got {type(x).__name__}"
        )
    if iter(x) is x:
        raise TypeError("x must be a loader that can be read more than once, got an iterator")
    return x

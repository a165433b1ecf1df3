"""Curves of low loss between two trained networks: quadratic Bézier curves and polygonal chains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from bayesgen._internal import checks
from bayesgen._internal.progress import Progress
from bayesgen.errors import DivergedError
from bayesgen.training.settings import Settings

KINDS = ("line", "bezier", "chain")


@dataclass(frozen=True)
class Curve:
    """A curve θ(t), 0 ≤ t ≤ 1, in the space of weights, with one bend between two ends.

    A Bézier curve is (1 − t)²θ₀ + 2t(1 − t)θ_b + t²θ₁. A chain goes on straight lines from θ₀ to
    the bend θ_b, which it reaches at t = ½, and on to θ₁. A line ignores the bend.

    Attributes:
        kind: "line", "bezier" or "chain".
        start, bend, end: θ₀, θ_b and θ₁, (P,) each.

    Raises:
        ValueError: the kind is unknown, or the shapes differ.

    Example:
        >>> ends = torch.zeros(2), torch.tensor([1.0, 1.0]), torch.tensor([2.0, 0.0])
        >>> Curve("bezier", *ends).at(0.5), Curve("chain", *ends).at(0.5)
        (tensor([1.0000, 0.5000]), tensor([1., 1.]))
    """

    kind: str
    start: Tensor
    bend: Tensor
    end: Tensor

    def __post_init__(self) -> None:
        checks.one_of("kind", self.kind, KINDS)
        shapes = [tuple(each.shape) for each in (self.start, self.bend, self.end)]
        if len(set(shapes)) > 1 or self.start.ndim != 1:
            raise ValueError(f"start, bend and end must have one shape (P,), got {shapes}")

    def at(self, t: float) -> Tensor:
        """The weights θ(t), (P,)."""
        first, middle, last = coefficients(self.kind, checks.share("t", t))
        return first * self.start + middle * self.bend + last * self.end


def coefficients(kind: str, t: float) -> tuple[float, float, float]:
    """Coefficients of start, bend and end in a curve at t."""
    if kind == "line":
        return 1 - t, 0.0, t
    if kind == "bezier":
        return (1 - t) ** 2, 2 * t * (1 - t), t**2
    return max(0.0, 1 - 2 * t), 1 - abs(1 - 2 * t), max(0.0, 2 * t - 1)


def flat(net: nn.Module) -> Tensor:
    """All parameters of a network as one vector, (P,), in the order of `net.parameters()`."""
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()])


def named(net: nn.Module, theta: Tensor) -> dict[str, Tensor]:
    """Parameters by name as views of a vector (P,).

    Raises:
        ValueError: the vector has another length.
    """
    parts = dict(net.named_parameters())
    sizes = [p.numel() for p in parts.values()]
    if tuple(theta.shape) != (sum(sizes),):
        raise ValueError(f"theta must have shape ({sum(sizes)},), got {tuple(theta.shape)}")
    pieces = theta.split(sizes)
    return {
        name: piece.view(p.shape) for (name, p), piece in zip(parts.items(), pieces, strict=True)
    }


def train_curve(
    net: nn.Module,
    start: Tensor,
    end: Tensor,
    x: Tensor,
    y: Tensor,
    *,
    kind: str = "bezier",
    epochs: int = 200,
    batch: int | None = 128,
    learning_rate: float = 0.03,
    momentum: float = 0.9,
    prior_precision: float = 0.0,
    augment: Callable[[Tensor], Tensor] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Curve:
    """Train the bend of a curve between two networks, on the mean loss over the curve.

    Each step draws t ~ U(0, 1) and descends the loss of one batch at θ(t), with the penalty
    (α/2n)‖θ(t)‖². The bend starts in the middle of the ends. BatchNorm uses the statistics of the
    batch. The learning rate decreases to zero as a cosine.

    Args:
        net: a network of the architecture; its own weights are not used, and it is left as it is.
        start, end: weights of the two networks, (P,) each; see `flat`.
        x: inputs (n, …).
        y: labels (n,).
        kind: "bezier" or "chain".
        epochs, batch, momentum, augment: as in `bayesgen.train`.
        learning_rate: initial learning rate of SGD.
        prior_precision: α ≥ 0.
        seed: seed of the order of the data and of the values of t.
        progress: called as progress(done, expected, what) after each epoch.

    Raises:
        ValueError: an argument is out of range.
        DivergedError: a loss is not finite.

    Source: Garipov et al. (2018), section 3.

    Example:
        >>> import bayesgen as bg
        >>> data = bg.data.load("digits", train=100, dtype=torch.float32)
        >>> nets = [bg.networks.MLP(64, (8,), 10) for _ in range(2)]
        >>> ends = [flat(each) for each in nets]
        >>> curve = train_curve(nets[0], *ends, data.x_train, data.y_train, epochs=2)
        >>> torch.equal(curve.at(1.0), ends[1])
        True
    """
    settings = Settings(epochs, batch, "sgd", learning_rate, momentum, "cosine", "native", seed)
    checks.one_of("kind", kind, KINDS[1:])
    if not prior_precision >= 0:
        raise ValueError(f"prior_precision must be at least 0, got {prior_precision}")
    bend = (0.5 * (start + end)).requires_grad_()
    curve = Curve(kind, start, bend, end)
    optimiser = settings.make([bend])
    generator = torch.Generator().manual_seed(seed)
    buffers = {name: value.detach().clone() for name, value in net.named_buffers()}
    modes = {module: module.training for module in net.modules()}
    net.train()
    try:
        for epoch in range(epochs):
            steps = settings.steps(len(x), 2)
            for step, index in enumerate(settings.order(epoch, len(x), 2)):
                for group in optimiser.param_groups:
                    group["lr"] = settings.rate(epoch + step / steps)
                index = index.to(x.device)
                rows = x[index] if augment is None else augment(x[index])
                theta = curve.at(float(torch.rand((), generator=generator)))
                state: dict[str, Any] = named(net, theta) | buffers
                loss = cross_entropy(functional_call(net, state, (rows,)), y[index])
                value = float(loss.detach())
                if value != value or value == float("inf"):
                    raise DivergedError(f"the loss is {value} in epoch {epoch + 1} of the curve")
                optimiser.zero_grad()
                (loss + 0.5 * prior_precision / len(x) * theta.square().sum()).backward()
                optimiser.step()
            if progress is not None:
                progress(epoch + 1, epochs, f"{kind}: loss {value:.3f}")
    finally:
        for module, mode in modes.items():
            module.training = mode
    return Curve(kind, start, bend.detach(), end)

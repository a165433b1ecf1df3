"""Curves of low loss between two trained networks: quadratic Bézier curves and polygonal chains."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from bayesgen._internal import checks, random_state
from bayesgen._internal.progress import ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.errors import DivergedError
from bayesgen.networks import inputs
from bayesgen.networks.admission import undisturbed
from bayesgen.networks.gradients import Passes, trainable, trainable_copy
from bayesgen.training.inputs import read
from bayesgen.training.settings import Settings
from bayesgen.training.smallest_batch import smallest_batch

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
        TypeError: start, bend or end is not a tensor.
        ValueError: the kind is unknown, or the shapes, dtypes or devices differ.

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
        points = {"start": self.start, "bend": self.bend, "end": self.end}
        for name, each in points.items():
            if not isinstance(each, Tensor):
                raise TypeError(f"{name} must be a tensor (P,), got a {type(each).__name__}")
        shapes = [tuple(each.shape) for each in points.values()]
        if len(set(shapes)) > 1 or self.start.ndim != 1:
            raise ValueError(f"start, bend and end must have one shape (P,), got {shapes}")
        kinds = [(each.dtype, str(each.device)) for each in points.values()]
        if len(set(kinds)) > 1:
            raise ValueError(f"start, bend and end must have one dtype and device, got {kinds}")

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


@shows_progress
def train_curve(
    net: nn.Module,
    start: Any,
    end: Any,
    x: Any,
    y: Any,
    *,
    kind: str = "bezier",
    epochs: int = 200,
    batch: int | None = 128,
    learning_rate: float = 0.03,
    momentum: float = 0.9,
    prior_precision: float = 0.0,
    augment: Callable[[Tensor], Tensor] | None = None,
    seed: int = 0,
    progress: ProgressOption = None,
) -> Curve:
    """Train the bend of a curve between two networks, on the mean loss over the curve.

    Each step draws t ~ U(0, 1) and descends the loss of one batch at θ(t), with the penalty
    (α/2n)‖θ(t)‖². The bend starts in the middle of the ends. BatchNorm uses the statistics of the
    batch. The learning rate decreases to zero as a cosine.

    Args:
        net: a network of the architecture; its own weights are not used, and it is left as it is.
        start, end: weights of the two networks, (P,) each; see `flat`. They are converted to the
            dtype and device of `net`, and their autograd graph is not used.
        x: inputs (n, …), of the dtype and on the device of `net`.
        y: labels 0..C−1, (n,).
        kind: "bezier" or "chain".
        epochs, batch, momentum, augment: as in `bayesgen.train`.
        learning_rate: initial learning rate of SGD.
        prior_precision: α ≥ 0.
        seed: seed of the order of the data, of the values of t and of dropout; the state of
            torch's random generators is left as it is.
        progress: called as progress(done, expected, what) after each epoch; True shows a progress
            bar.

    Raises:
        TypeError, ValueError: an argument has the wrong type, shape or dtype, or is out of range,
            or the network cannot be trained on batches of this size.
        DivergedError: a loss, or a weight after the last step, is not finite.

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
    alpha = checks.amount("prior_precision", prior_precision)
    seed = checks.seed(seed)
    trainable(net)
    own = trainable_copy(net)
    ends = _end("start", start, own), _end("end", end, own)
    x, labels, least = _observations(own, net, x, y, settings)
    bend = (0.5 * (ends[0] + ends[1])).requires_grad_()
    curve = Curve(kind, ends[0], bend, ends[1])
    optimiser = settings.make([bend])
    generator = torch.Generator().manual_seed(seed)
    steps = settings.steps(len(x), least)
    own.train()
    with random_state.kept({bend.device}):
        _set_seed(bend.device, seed)
        for epoch in range(settings.epochs):
            for step, index in enumerate(settings.order(epoch, len(x), least)):
                for group in optimiser.param_groups:
                    group["lr"] = settings.rate(epoch + step / steps)
                index = index.to(bend.device)
                rows = x[index] if augment is None else inputs.mapped("augment", augment, x[index])
                theta = curve.at(float(torch.rand((), generator=generator)))
                loss = cross_entropy(_outputs(own, theta, rows), labels[index])
                value = float(loss.detach())
                if not math.isfinite(value):
                    raise DivergedError(f"the loss is {value} in epoch {epoch + 1} of the curve")
                optimiser.zero_grad()
                (loss + 0.5 * alpha / len(x) * theta.square().sum()).backward()
                optimiser.step()
            if progress is not None:
                progress(epoch + 1, settings.epochs, f"{kind}: loss {value:.3f}")
    if not bool(bend.isfinite().all()):
        raise DivergedError("the weights of the bend are not finite after the last step")
    return Curve(kind, ends[0], bend.detach(), ends[1])


def _end(name: str, value: Any, net: nn.Module) -> Tensor:
    """An end of a curve as a vector of the network's dtype and on its device, (P,)."""
    theta = checks.real(name, value).detach()
    size = sum(p.numel() for p in net.parameters())
    if tuple(theta.shape) != (size,):
        raise ValueError(
            f"{name} must hold the {size} parameters of net, of shape ({size},), got shape "
            f"{tuple(theta.shape)}"
        )
    like = next(net.parameters())
    return checks.owned(theta.to(like))


def _observations(
    own: nn.Module, net: nn.Module, x: Any, y: Any, settings: Settings
) -> tuple[Any, Tensor, int]:
    """Checked inputs, labels (n,) and the smallest number of observations in a step.

    Args:
        own: the copy of the network that is trained.
        net: the network itself.
    """
    x = read(net, x, y)
    with undisturbed(own.eval()):
        passes = Passes(own, x, original=net)
    labels = checks.class_labels("y", y, passes.first.shape[1]).to(x.device)
    if tuple(labels.shape) != (len(x),):
        raise ValueError(
            f"y must have shape ({len(x)},), one label for each input, got {tuple(labels.shape)}"
        )
    return x, labels, smallest_batch(own, passes, x, settings)


def _outputs(net: nn.Module, theta: Tensor, rows: Any) -> Tensor:
    """Outputs (n, C) of a network with other weights."""
    if isinstance(rows, Tensor):
        return cast(Tensor, functional_call(net, named(net, theta), (rows,)))
    raise TypeError(f"x must be one tensor of inputs (n, …), got a {type(rows).__name__}")


def _set_seed(device: torch.device, seed: int) -> None:
    """Seed the default generator of the CPU, and that of a GPU on which a network is."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)

"""Compression of networks to a few thousand bits, with a bound on the risk of the result.

A network is trained in a random subspace of its weights, w = w₀ + Pz, where w₀ and P follow from a
seed. The vector z is quantised to a few learnt levels and arithmetic-coded. The code is the
hypothesis: the reported risk is that of the weights decoded from the bytes into a network without
weights of its own.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bayesgen import provenance
from bayesgen._internal import checks, random_state
from bayesgen._internal.progress import Progress
from bayesgen.networks.copies import other_names
from bayesgen.networks.inputs import call_at
from bayesgen.pacbayes import bounds, validation
from bayesgen.pacbayes.certificates.certificate import Certificate, Payment
from bayesgen.pacbayes.compression import architecture
from bayesgen.pacbayes.compression.container import LARGEST_SEED, Container, unpacked
from bayesgen.pacbayes.compression.projections import PROJECTIONS, Projection

_EVALUATION = 4096


@dataclass(frozen=True)
class Compressed:
    """A network encoded as bytes, with its training risk.

    Attributes:
        code: the bytes; see `bayesgen.pacbayes.compression.container`.
        net: a copy of the architecture in evaluation mode; its own weights are not used.
        projection: "kronecker" or "sparse".
        risk: 0–1 training risk of the decoded weights.
        n: number of training observations.
        classes: C, the number of classes.
        candidates: number of settings, stated before the data were seen, among which this network
            was selected; `certificate` pays for it.
    """

    code: bytes
    net: nn.Module
    projection: str
    risk: float
    n: int
    classes: int
    candidates: int = 1

    @property
    def bits(self) -> int:
        """Length of the code in bits."""
        return 8 * len(self.code)

    @property
    def log_prior(self) -> Tensor:
        """Log prior probability of the code, −(C ln 2 + 2 ln C) for C bits."""
        return bounds.solomonoff(float(self.bits))

    @property
    def settings(self) -> dict[str, int]:
        """The seed, the dimension and the number of levels, as the code states them."""
        most = sum(p.numel() for p in self.net.parameters())
        held = unpacked(self.code, architecture.description(self.net, self.projection), most)
        return {
            "seed": held.seed, "dimension": len(held.symbols), "levels": len(held.codebook)
        }  # fmt: skip

    def decoded(self) -> nn.Module:
        """The network with the weights decoded from the code."""
        return decode(self.code, self.net, self.projection)

    def certificate(
        self, delta: float = 0.05, *, candidates: int = 1, bound: str = "occam"
    ) -> Certificate:
        """Bound on the 0–1 risk of the decoded, deterministic network on new data.

        Args:
            delta: δ in (0, 1).
            candidates: number of settings, stated before the data were seen, that the caller tried
                beside those in `Compressed.candidates`; the bound pays for the product of both.
            bound: "occam", the inverse binary kl for countable hypotheses, or "countable", the
                looser theorem 3.1 of Wilson (2025).

        Source: Lotfi et al. (2022), theorem 1; Langford (2005), theorem 4.6.
        """
        checks.one_of("bound", bound, ("occam", "countable"))
        function, words = {
            "occam": (bounds.occam, "Occam's bound by the inverse binary kl, Langford (2005)"),
            "countable": (bounds.countable, "Countable hypotheses, Wilson (2025), theorem 3.1"),
        }[bound]
        tried = checks.whole("candidates", candidates)
        tried *= checks.whole("Compressed.candidates", self.candidates)
        paid = math.log(tried)
        payment = Payment(f"one of {tried:,} settings stated beforehand", paid)
        return Certificate(
            bound=float(function(self.risk, self.log_prior - paid, self.n, delta).clamp(max=1)),
            risk=self.risk,
            complexity=-float(self.log_prior),
            delta=delta,
            n=self.n,
            loss="0–1 loss",
            predictor="network",
            theorem=words,
            payments=(payment,) if tried > 1 else (),
            guessing=1 - 1 / self.classes,
            notes=(f"The network is a code of {self.bits:,} bits, which decode to it exactly.",),
        )


def compress(
    net: nn.Module,
    x: Any,
    y: Any,
    *,
    dimension: int = 1000,
    levels: int = 7,
    projection: str = "kronecker",
    epochs: int = 10,
    quantised_epochs: int = 5,
    batch: int = 256,
    learning_rate: float = 0.3,
    entropy: float = 0.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Compressed:
    """Train a network in a random subspace, quantise it and encode it.

    First, z is trained by Adam on the cross-entropy, with a cosine schedule of the learning rate.
    Then its entries are rounded to a few levels, and z and the levels are trained further with the
    gradient passed through the rounding (straight-through). All randomness comes from the seed.

    Args:
        net: any module from (n, …) to class scores (n, C). It is not changed, and only its
            architecture is used: w₀ is drawn from the seed. A copy in evaluation mode is trained,
            so that Dropout is off and BatchNorm uses its statistics, which must be the initial ones
            (0 and 1). The receiver of the code must hold the same architecture, buffers included.
        x: inputs, (n, …), as the net takes them, of its dtype and on its device.
        y: labels, integers (n,).
        dimension: dimension k of the subspace.
        levels: number of levels L, 2 to 255, at most the dimension.
        projection: "kronecker" or "sparse".
        epochs, quantised_epochs: passes over the data before and after quantisation.
        batch: number of observations in a step.
        learning_rate: Adam's initial learning rate; a third of it is used after quantisation.
        entropy: weight of the code length in the choice of levels, in squared level distances per
            bit; it favours frequent levels.
        seed: seed of w₀, P and the order of the data, from 0 to 2³² − 1.
        progress: called as progress(done, expected, what) after each epoch.

    Raises:
        ValueError: an argument is out of range; the net has frozen parameters or holds statistics
            of data; its scores are random, mix the rows of a batch or have another shape; the loss
            becomes infinite or NaN.
        TypeError: the labels are not integers; the net and x differ in dtype.

    Source: Lotfi et al. (2022), section 4; Li et al. (2018) for the subspace.

    Example:
        >>> import bayesgen as bg
        >>> data = bg.data.load("digits", dtype=torch.float32)
        >>> net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        >>> small = compress(net, data.x_train, data.y_train, dimension=100, batch=64)
        >>> small.certificate().bound < 0.9
        True
    """
    settings = {"epochs": epochs, "batch": batch, "quantised_epochs": quantised_epochs}
    for name, value in settings.items():
        checks.whole(name, value)
    check_settings(dimension, levels, projection, seed)
    rate = validation.number("learning_rate", learning_rate)
    checks.positive("learning_rate", rate)
    weight = validation.number("entropy", entropy)
    if weight < 0:
        raise ValueError(f"entropy must be at least 0, got {entropy}")
    own = architecture.private(net)
    beside = provenance.beside_state(own)
    x = _inputs(own, x)
    parameters = sum(p.numel() for p in own.parameters())
    if dimension > parameters:
        raise ValueError(
            f"dimension must be at most the net's {parameters:,} parameters, got {dimension:,}"
        )
    with random_state.kept([x.device]):
        classes = architecture.scores(own, x[:1]).shape[1]
        architecture.check_own(own, x[:1], net)
        if provenance.beside_state(own) != beside:
            raise ValueError(
                "net must keep its attributes in a forward pass, but some of their numbers or "
                "tensors have changed, which the receiver of the code does not know"
            )
        y = _labels(y, x, classes)
        _check_stated(own, x, y)
        space = Subspace.of(own, dimension, projection, seed, x)
        z = torch.zeros(dimension, dtype=x.dtype, device=x.device)
        architecture.check_deterministic(space.module(z), x)
        total = epochs + quantised_epochs
        train = _Training(space, x, y, batch, seed, progress, total, classes)
        z = train.run(z, epochs, rate)
        start = _quantiles(z, levels)
        z, codebook = train.run_quantised(z, start, quantised_epochs, rate / 3, weight)
        stored = codebook.half()  # the code stores float16
        if not torch.isfinite(stored).all():
            raise ValueError(
                "learning_rate must be lower: a level of the weights became NaN or exceeds the "
                f"range of float16, {float(codebook.abs().max()):.3g}"
            )
        codebook = stored.to(x)
        symbols = _assign(z, codebook, _lengths(z, codebook, weight))
        code = Container(seed, stored.cpu(), symbols.cpu()).packed(
            architecture.description(own, projection)
        )
        decoded = decode(code, architecture.blank(own), projection)
        architecture.check_deterministic(decoded, x)
        risk = zero_one_risk(decoded, x, y)
    return Compressed(code, own, projection, risk, len(x), classes)


def check_settings(dimension: Any, levels: Any, projection: Any, seed: Any) -> None:
    """Check the settings of a code that do not depend on the network.

    Raises:
        ValueError: one of them is out of range.
    """
    checks.whole("dimension", dimension)
    if not 2 <= checks.whole("levels", levels) <= 255:
        raise ValueError(f"levels must lie in 2..255, got {levels}")
    if levels > dimension:
        raise ValueError(f"levels must be at most the dimension, {dimension}, got {levels}")
    if checks.whole("seed", seed, 0) > LARGEST_SEED:
        raise ValueError(f"seed must be at most {LARGEST_SEED}, got {seed}")
    checks.one_of("projection", projection, tuple(PROJECTIONS))


def decode(code: bytes, net: nn.Module, projection: str) -> nn.Module:
    """Decode a code into a copy of `net` with the decoded weights.

    Args:
        code: code from `compress`.
        net: the architecture.
        projection: the projection used in training.

    Returns:
        The network in evaluation mode; `net` is not changed, and its own weights are not used.

    Raises:
        TypeError: the code is not made of bytes; the net is no module with parameters of one dtype.
        ValueError: the code is incomplete, too long or damaged, or that of another architecture or
            projection.
    """
    checks.one_of("projection", projection, tuple(PROJECTIONS))
    own = architecture.private(net)
    most = sum(p.numel() for p in own.parameters())
    found = unpacked(code, architecture.description(own, projection), most)
    like = next(own.parameters()).detach()
    space = Subspace.of(own, len(found.symbols), projection, found.seed, like)
    return space.module(found.codebook.to(like)[found.symbols.to(like.device)])


def zero_one_risk(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Fraction of labels that the network predicts wrongly.

    Raises:
        ValueError: the scores are not finite, or not of shape (n, C).
    """
    parts = [architecture.scores(net, part).argmax(-1) for part in x.split(_EVALUATION)]
    return float((torch.cat(parts) != y).double().mean())


def _inputs(net: nn.Module, x: Any) -> Tensor:
    """Inputs of the dtype and on the device of the network, without autograd graph."""
    x, like = checks.real("x", x).detach(), next(net.parameters())
    if x.dtype != like.dtype:
        raise TypeError(
            f"x must have the dtype of the net's parameters, {like.dtype}, got {x.dtype}; convert "
            "one of them explicitly"
        )
    if x.device != like.device:
        raise ValueError(f"x is on device {x.device} but the net is on {like.device}; move one")
    if x.ndim < 2 or not x.numel():
        raise ValueError(f"x must have shape (n, …) and not be empty, got {tuple(x.shape)}")
    return x


def _labels(y: Any, x: Tensor, classes: int) -> Tensor:
    labels = checks.class_labels("y", y, classes).to(x.device)
    if labels.shape != x.shape[:1]:
        raise ValueError(f"y must have shape ({len(x)},), got {tuple(labels.shape)}")
    return labels


def _check_stated(net: nn.Module, x: Tensor, y: Tensor) -> None:
    """Check that what is not in the code was not learnt on these data.

    These are buffers, and what attributes, lists, closures and the code of the modules refer to.
    """
    data, buffers = provenance.Data(x, y), list(net.buffers())
    found = provenance.sources({"buffers": buffers}, data, provenance.now())
    apart = (*net.parameters(), *buffers)
    found += provenance.sources({"attributes": [net]}, data, provenance.now(), apart=apart)
    names = list(dict.fromkeys(source.what for source in found))
    if names:
        said = provenance.Provenance(data, found).describe(names)
        raise ValueError(
            f"net must hold {' and '.join(names)} that were stated before the data, but {said}"
        )


@dataclass(frozen=True)
class Subspace:
    """The weights w = w₀ + Pz of one architecture.

    Attributes:
        net: the architecture.
        origin: w₀, (D,).
        projection: the function z → Pz.
    """

    net: nn.Module
    origin: Tensor
    projection: Projection

    @classmethod
    def of(
        cls, net: nn.Module, dimension: int, projection: str, seed: int, like: Tensor
    ) -> Subspace:
        """Build w₀ and P from a seed: w₀ as in He et al. (2015), with zero biases."""
        make = PROJECTIONS[projection]
        generator = torch.Generator().manual_seed(seed)
        parts, gains = [], []
        for p in net.parameters():
            fan_in = p[0].numel() if p.ndim > 1 else 1
            sd = math.sqrt(2 / fan_in) if p.ndim > 1 else 0.0
            drawn = torch.randn(p.numel(), generator=generator, dtype=torch.float64)
            parts.append(sd * drawn)
            # Scale each direction so that it changes a layer in proportion to the size of its
            # weights.
            gains.append(
                torch.full((p.numel(),), math.sqrt(1 / max(fan_in, 16)), dtype=torch.float64)
            )
        D = sum(len(part) for part in parts)
        return cls(
            net, torch.cat(parts).to(like), make(D, dimension, torch.cat(gains), generator, like)
        )

    def weights(self, z: Tensor) -> Tensor:
        """The weights w at z, (D,)."""
        return self.origin + self.projection(z)

    def outputs(self, z: Tensor, x: Tensor) -> Tensor:
        """Class scores of the network at z for inputs x."""
        return call_at(self.net, self._named(self.weights(z)), other_names(self.net), x)

    def module(self, z: Tensor) -> nn.Module:
        """A copy of the network with the weights at z."""
        net = copy.deepcopy(self.net)
        with torch.no_grad():
            named = self._named(self.weights(z))
            for name, p in net.named_parameters():
                p.copy_(named[name])
        return net

    def _named(self, w: Tensor) -> dict[str, Tensor]:
        named = list(self.net.named_parameters())
        parts = w.split([p.numel() for _, p in named])
        return {name: part.view_as(p) for (name, p), part in zip(named, parts, strict=True)}


@dataclass
class _Training:
    """Mini-batch training of z, with and without quantisation."""

    space: Subspace
    x: Tensor
    y: Tensor
    batch: int
    seed: int
    progress: Progress | None
    total: int
    classes: int
    done: int = 0

    def run(self, z: Tensor, epochs: int, rate: float) -> Tensor:
        """Train z for a number of epochs."""
        z = z.clone().requires_grad_()
        self._descend([z], lambda: z, epochs, rate, "training")
        return z.detach()

    def run_quantised(
        self, z: Tensor, codebook: Tensor, epochs: int, rate: float, entropy: float
    ) -> tuple[Tensor, Tensor]:
        """Train z and the levels for a number of epochs with z rounded to the levels."""
        z, codebook = z.clone().requires_grad_(), codebook.clone().requires_grad_()

        def rounded() -> Tensor:
            with torch.no_grad():
                symbols = _assign(z, codebook, _lengths(z, codebook, entropy))
            chosen = codebook[symbols]
            # The value of the level, with gradients to both the level and z.
            return chosen + (z - z.detach())

        self._descend([z, codebook], rounded, epochs, rate, "quantised")
        return z.detach(), codebook.detach()

    def _descend(
        self,
        parameters: list[Tensor],
        value: Callable[[], Tensor],
        epochs: int,
        rate: float,
        what: str,
    ) -> None:
        optimiser = torch.optim.Adam(parameters, lr=rate)
        steps = epochs * -(-len(self.x) // self.batch)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        generator = torch.Generator().manual_seed(self.seed + self.done)
        loss = torch.zeros(())
        for _ in range(epochs):
            order = torch.randperm(len(self.x), generator=generator).to(self.x.device)
            for rows in order.split(self.batch):
                scores = self.space.outputs(value(), self.x[rows])
                architecture.check_scores(scores, len(rows), self.classes)
                loss = nn.functional.cross_entropy(scores, self.y[rows])
                if not torch.isfinite(loss):
                    raise ValueError(
                        f"the loss became {float(loss.detach())} in epoch {self.done + 1}; lower "
                        "learning_rate"
                    )
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
            self.done += 1
            if self.progress is not None:
                words = f"{what}, epoch {self.done}: loss {float(loss.detach()):.3f}"
                self.progress(self.done, self.total, words)


def _quantiles(z: Tensor, levels: int) -> Tensor:
    """Initial levels: means of runs of equal counts of the sorted entries of z."""
    ordered = z.sort().values
    return torch.stack([part.mean() for part in ordered.tensor_split(levels)])


def _lengths(z: Tensor, codebook: Tensor, entropy: float) -> Tensor:
    """Penalty of each level from its code length, estimated from how often it is the nearest."""
    if entropy <= 0:
        return torch.zeros_like(codebook)
    nearest = (z[:, None] - codebook).square().argmin(1)
    counts = torch.bincount(nearest, minlength=len(codebook)).to(z) + 1
    spread = z.var()
    return -entropy * spread * (counts / counts.sum()).log2()


def _assign(z: Tensor, codebook: Tensor, lengths: Tensor) -> Tensor:
    return ((z[:, None] - codebook).square() + lengths).argmin(1)

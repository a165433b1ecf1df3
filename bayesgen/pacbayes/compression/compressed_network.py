"""Compression of networks to a few thousand bits, with a bound on the risk of the result.

A network is trained in a random subspace of its weights, w = w₀ + Pz, where w₀ and P follow from a
seed. The vector z is quantised to a few learnt levels and arithmetic-coded. The code is the
hypothesis: the reported risk is that of the weights decoded from the bytes into a network without
weights of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bayesgen import provenance
from bayesgen._internal import checks, random_state
from bayesgen._internal.progress import Progress, ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.likelihoods.softmax import Softmax
from bayesgen.networks.admission import dtypes_differ
from bayesgen.pacbayes import bounds
from bayesgen.pacbayes.certificates.certificate import Certificate, Payment
from bayesgen.pacbayes.compression import architecture, quantisation
from bayesgen.pacbayes.compression.container import unpacked
from bayesgen.pacbayes.compression.projections import PROJECTIONS
from bayesgen.pacbayes.compression.settings import CodeSettings
from bayesgen.pacbayes.compression.subspace import Subspace

_EVALUATION = 4096


@dataclass(frozen=True)
class Compressed:
    """A network encoded as bytes, with its training risk.

    Attributes:
        code: the bytes; see `bayesgen.pacbayes.compression.container`.
        net: a copy of the architecture in evaluation mode; its own weights are not used.
        projection: a name of a projection.
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


@shows_progress
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
    progress: ProgressOption = None,
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
        projection: "kronecker", "sparse", or "identity", for which the dimension must be the number
            of all weights.
        epochs, quantised_epochs: passes over the data before and after quantisation.
        batch: number of observations in a step.
        learning_rate: Adam's initial learning rate; a third of it is used after quantisation.
        entropy: weight of the code length in the choice of levels, in squared level distances per
            bit; it favours frequent levels.
        seed: seed of w₀, P and the order of the data, from 0 to 2³² − 1.
        progress: called as progress(done, expected, what) after each epoch; True shows a progress
            bar.

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
    how = CodeSettings(dimension, levels, projection, entropy, seed)
    rate = checks.number("learning_rate", learning_rate)
    checks.positive("learning_rate", rate)
    own = architecture.private(net)
    beside = provenance.beside_state(own)
    x = _inputs(own, x)
    how.check(own)
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
        start = quantisation.quantiles(z, levels)
        z, codebook = train.run_quantised(z, start, quantised_epochs, rate / 3, how.entropy)
        code = how.packed(own, z, codebook)
        decoded = decode(code, architecture.blank(own), projection)
        architecture.check_deterministic(decoded, x)
        risk = zero_one_risk(decoded, x, y)
    return Compressed(code, own, projection, risk, len(x), classes)


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
        raise TypeError(dtypes_differ(like.dtype, [str(x.dtype)]))
    if x.device != like.device:
        raise ValueError(f"x is on device {x.device} but the net is on {like.device}; move one")
    if x.ndim < 2 or not x.numel():
        raise ValueError(f"x must have shape (n, …) and not be empty, got {tuple(x.shape)}")
    return x


def _labels(y: Any, x: Tensor, classes: int) -> Tensor:
    _, y, _ = Softmax().numbered(y)
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
            return quantisation.rounded(z, codebook, entropy)

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

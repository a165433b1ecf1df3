"""Many random networks at once: which of them classify some points correctly."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy import stats
from torch import Tensor, nn
from torch.func import functional_call, vmap

from bayesgen import verify
from bayesgen._internal import checks

# A function (count, parameters, generator) → draws of the weights, (count, parameters).
Draw = Callable[[int, int, torch.Generator], Tensor]
# Numbers that the outputs of one batch of networks may hold.
_LARGEST = 4_000_000
# Largest number of networks that are drawn at once.
_BLOCK = 16_384


def uniform(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Weights drawn from the uniform distribution on [−1, 1], (count, size), float32."""
    return torch.rand(count, size, generator=generator).mul_(2).sub_(1)


def normal(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Weights drawn from N(0, 1), (count, size), float32."""
    return torch.randn(count, size, generator=generator)


@dataclass(frozen=True)
class Share:
    """A share of the prior mass, estimated from independent draws.

    Attributes:
        accepted: number of draws that fit.
        guesses: number of draws.

    Example:
        >>> share = Share(30, 100)
        >>> share.value, [round(bound, 3) for bound in share.interval()]
        (0.3, [0.212, 0.4])
    """

    accepted: int
    guesses: int

    def __post_init__(self) -> None:
        checks.whole("guesses", self.guesses)
        if not 0 <= checks.whole("accepted", self.accepted, 0) <= self.guesses:
            raise ValueError(f"accepted must be at most {self.guesses}, got {self.accepted}")

    @property
    def value(self) -> float:
        """The share of draws that fit, an unbiased estimate."""
        return self.accepted / self.guesses

    @property
    def log_marginal_likelihood(self) -> float:
        """The natural logarithm of the share, in nats.

        The marginal likelihood ∫ p(D | θ) p(θ) dθ of the 0–1 likelihood, p(D | θ) = 1 where θ
        classifies all points correctly and 0 elsewhere, is this share.
        """
        return math.log(self.value) if self.accepted else -math.inf

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """The interval of Clopper & Pearson (1934) for the share."""
        tail = (1 - checks.share("confidence", confidence)) / 2
        k, n = self.accepted, self.guesses
        low = float(stats.beta.ppf(tail, k, n - k + 1)) if k else 0.0
        high = float(stats.beta.ppf(1 - tail, k + 1, n - k)) if k < n else 1.0
        return low, high


class Guesser:
    """Networks of one architecture with random weights, run together by `torch.func.vmap`.

    A copy of the network in evaluation mode is used, so that there is no dropout. Weights and
    inputs take the dtype and device of the network. All methods raise a TypeError or a ValueError
    where an argument has the wrong type or shape, or where inputs are not finite.

    Args:
        net: a module from inputs (n, …) to one score per observation, (n, 1); the class is 1 where
            the score is positive. Its own weights are not used.
        draw: prior of the weights, a function (count, P, generator) → weights (count, P). It is
            called for blocks of a fixed number of networks, whatever the inputs, so that the
            weights depend on P, the seed and the position alone.

    Raises:
        TypeError, ValueError: the network is no module with trainable parameters, or has buffers;
            draw is no function.

    Example:
        >>> import bayesgen as bg
        >>> guesser = Guesser(bg.networks.MLP(2, (), 1))
        >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
        >>> share, kept = guesser.guess(x, torch.tensor([1, 0]), 1000, seed=0)
        >>> 0.15 < share.value < 0.35, kept.shape[1]
        (True, 3)
    """

    def __init__(self, net: nn.Module, draw: Draw = uniform) -> None:
        self.net = copy.deepcopy(checks.network("net", net)).eval()
        if not callable(draw):
            raise TypeError(
                f"draw must be a function (count, size, generator) → weights, got {draw!r}"
            )
        if next(net.buffers(), None) is not None:
            raise ValueError("net must have no buffers, such as the statistics of BatchNorm")
        self.draw = draw
        parts = dict(net.named_parameters())
        self._names = list(parts)
        self._shapes = [tuple(p.shape) for p in parts.values()]
        self._sizes = [p.numel() for p in parts.values()]
        self.size = sum(self._sizes)
        self._like = next(net.parameters()).detach()

    def _theta(self, value: Any, name: str = "theta", *, finite: bool = False) -> Tensor:
        """Weights (B, P) of the network's dtype and on its device.

        Weights that diverged in training may be scored, so that they are finite only on demand.
        """
        theta = checks.real(name, value) if finite else checks.as_tensor(name, value)
        if not theta.is_floating_point():
            raise TypeError(f"{name} must hold real numbers, got dtype {theta.dtype}")
        if theta.ndim != 2 or theta.shape[1] != self.size:
            raise ValueError(
                f"{name} must have shape (B, {self.size}), one row of weights for each network, "
                f"got {tuple(theta.shape)}"
            )
        return theta.to(self._like)

    def _inputs(self, value: Any) -> Tensor:
        """Inputs (n, …) of the network's dtype and on its device, for which it has one score."""
        x = checks.real("x", value).detach().to(self._like)
        if x.ndim < 2 or x.numel() == 0:
            raise ValueError(f"x must have shape (n, …) with n ≥ 1, got {tuple(x.shape)}")
        try:
            with torch.no_grad():
                shape = tuple(self.net(x[:2]).shape)
        except (RuntimeError, ValueError, IndexError) as err:
            said = (str(err).strip().splitlines() or [type(err).__name__])[0]
            raise ValueError(
                f"x must hold inputs that net takes, got shape {tuple(x.shape)}: {said}"
            ) from err
        if shape != (len(x[:2]), 1):
            raise ValueError(
                f"net must have one output for each input, of shape ({len(x[:2])}, 1) for "
                f"{len(x[:2])} inputs, got {shape}"
            )
        return x

    def _labels(self, value: Any, n: int) -> Tensor:
        """Labels 0 and 1 of n inputs, (n,)."""
        labels = checks.class_labels("y", value, 2).to(self._like.device)
        if tuple(labels.shape) != (n,):
            raise ValueError(
                f"y must have {n} labels, one for each input, got shape {tuple(labels.shape)}"
            )
        return labels

    def _stacked(self, theta: Tensor) -> dict[str, Tensor]:
        pieces = theta.split(self._sizes, 1)
        shaped = [p.reshape(-1, *s) for p, s in zip(pieces, self._shapes, strict=True)]
        return dict(zip(self._names, shaped, strict=True))

    def scores(self, theta: Any, x: Any) -> Tensor:
        """Scores of networks with weights (B, P) on inputs (n, …), (B, n); differentiable."""
        return self._scores(self._theta(theta), self._inputs(x))

    def _scores(self, theta: Tensor, x: Tensor) -> Tensor:
        """Scores as of `scores`, of arguments that have been checked."""

        def one(state: dict[str, Tensor]) -> Tensor:
            return functional_call(self.net, state, (x,)).squeeze(-1)

        return vmap(one)(self._stacked(theta))

    @torch.no_grad()
    def check(self, theta: Any, x: Any) -> verify.Check:
        """Comparison of the scores of some networks (B, P) with the plain module's."""
        theta, x = self._theta(theta), self._inputs(x)
        direct = torch.stack(
            [
                functional_call(
                    self.net, {k: v[0] for k, v in self._stacked(row[None]).items()}, (x,)
                ).squeeze(-1)
                for row in theta
            ]
        )
        return verify.compare("scores of networks run together", self._scores(theta, x), direct)

    def descend(
        self,
        theta: Any,
        x: Any,
        y: Any,
        *,
        epochs: Sequence[int],
        learning_rate: float,
        batch: int,
        momentum: float = 0.9,
        seed: int = 0,
    ) -> Iterator[Tensor]:
        """Weights of networks that are trained together by SGD on the logistic loss, (B, P).

        All networks process the observations in the same order.

        Args:
            theta: initial weights, (B, P); they are left as they are.
            x, y: inputs (n, …) and labels 0 and 1, (n,).
            epochs: increasing numbers of epochs, of at least 1, after which the weights are given.
            learning_rate: constant learning rate.
            batch: number of observations in a step.
            momentum: momentum of SGD.
            seed: seed of the order of the observations.

        Raises:
            TypeError, ValueError: an argument has the wrong type or shape or is out of range; it is
                raised by the call itself, before the first weights are asked for.

        Example:
            >>> import bayesgen as bg
            >>> guesser = Guesser(bg.networks.MLP(1, (), 1))
            >>> x, y = torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1])
            >>> steps = guesser.descend(torch.zeros(1, 2), x, y, epochs=[20], learning_rate=0.1,
            ...                         batch=1)
            >>> bool(next(steps)[0, 0] > 1)
            True
        """
        looks = checks.increasing("epochs", epochs)
        size = checks.whole("batch", batch)
        rate = checks.positive_number("learning_rate", learning_rate)
        generator = torch.Generator().manual_seed(checks.seed(seed))
        x = self._inputs(x)
        weights = self._theta(theta, finite=True).detach().clone().requires_grad_()
        signs = (2 * self._labels(y, len(x)) - 1).to(weights)
        share = checks.share("momentum", momentum)
        optimiser = torch.optim.SGD([weights], lr=rate, momentum=share)

        def run() -> Iterator[Tensor]:
            for epoch in range(1, looks[-1] + 1):
                for index in torch.randperm(len(x), generator=generator).split(size):
                    margins = signs[index] * self._scores(weights, x[index])
                    optimiser.zero_grad()
                    nn.functional.softplus(-margins).mean(1).sum().backward()
                    optimiser.step()
                if epoch in looks:
                    yield weights.detach().clone()

        return run()

    def norms(self, theta: Any) -> Tensor:
        """Product over the layers of the Frobenius norms of their parameters, (B,).

        The score of a network without biases with rectifiers is proportional to it. A bias counts
        as a column of the weights of its layer.
        """
        squares: dict[str, Tensor] = {}
        for name, value in self._stacked(self._theta(theta)).items():
            layer = name.rpartition(".")[0]
            own = value.double().flatten(1).square().sum(1)
            squares[layer] = squares.get(layer, torch.zeros_like(own)) + own
        return torch.stack(list(squares.values())).sqrt().prod(0)

    @torch.no_grad()
    def normalised_loss(self, theta: Any, x: Any, y: Any) -> Tensor:
        """Mean logistic loss of scores divided by `norms`, and by the norm of x, in nats, (B,).

        The scale of the weights, by which a fitted network can reach any small loss, is thereby
        removed.
        """
        theta, x = self._theta(theta), self._inputs(x)
        y = self._labels(y, len(x))
        sizes = x.flatten(1).norm(dim=1).square().mean().sqrt()
        scaled = self._scores(theta, x).double() / (self.norms(theta) * sizes)[:, None]
        return nn.functional.softplus(-(2 * y - 1) * scaled).mean(1)

    @torch.no_grad()
    def guess(
        self, x: Any, y: Any, count: int, *, seed: int, keep: int = 1000
    ) -> tuple[Share, Tensor]:
        """Draw networks and keep those that classify all points correctly.

        Args:
            x: inputs (n, …).
            y: labels 0 and 1, (n,).
            count: number of networks to draw.
            seed: seed of the weights.
            keep: largest number of networks to return; all are counted.

        Returns:
            The share of those that fit, and the weights of the first of them, (k, P).

        Raises:
            ValueError: a number is out of range, or a label is neither 0 nor 1.
            RuntimeError: the scores of networks run together differ from those of one by one.
        """
        x = self._inputs(x)
        labels, keep = self._labels(y, len(x)).bool(), checks.whole("keep", keep, 0)
        accepted, kept = 0, list[Tensor]()
        for theta, classes in self.batches(x, count, seed=seed):
            found = theta[(classes == labels).all(1)]
            kept.append(found[: max(0, keep - accepted)].clone())
            accepted += len(found)
        return Share(accepted, checks.whole("count", count)), torch.cat(kept)

    def batches(self, x: Any, count: int, *, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of random weights (B, P), with the classes that they give to x, (B, n), bool.

        The weights are drawn in blocks of one size for all inputs and counts: other inputs meet the
        same networks, and a larger count adds networks to those of a smaller one.

        Args:
            x: inputs (n, …).
            count: number of networks to draw in all batches together.
            seed: seed of the weights.

        Raises:
            TypeError, ValueError: the count is below one; draw gives another shape.
            RuntimeError: the scores of networks run together differ from those of one by one.
        """
        count = checks.whole("count", count)
        generator = torch.Generator().manual_seed(checks.seed(seed))
        x = self._inputs(x)
        batch = max(1, _LARGEST // max(self.size, x.numel() * 4))
        done = 0
        while done < count:
            block = self._drawn(generator)[: count - done]
            for theta in block.split(batch):
                if not done:
                    self.check(theta[:4], x).require()
                with torch.no_grad():
                    classes = self._scores(theta, x) > 0
                yield theta, classes
                done += len(theta)

    def _drawn(self, generator: torch.Generator) -> Tensor:
        """One block of random weights, (B, P), whose size depends on P alone."""
        rows = max(1, min(_BLOCK, _LARGEST // self.size))
        drawn = self.draw(rows, self.size, generator)
        theta = self._theta(drawn, "result of draw", finite=True).detach()
        if len(theta) != rows:
            raise ValueError(
                f"draw must give weights of shape ({rows}, {self.size}), got {tuple(theta.shape)}"
            )
        return theta

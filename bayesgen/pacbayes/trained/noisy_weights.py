"""Gaussian posteriors over the weights of a network, trained to minimise a PAC-Bayes bound.

The prior P = N(w₀, diag(c²v)) has the network's weights as its mean and v, the mean square of each
parameter tensor. Q = N(μ, diag(s²)) starts at P, and Adam minimises the bound of a bounded
cross-entropy over μ and log s, with weights drawn as μ + s·ε at each step. The Gibbs risk of the
result is estimated from independent draws of weights, each at a few random observations. The
estimate's confidence takes half of δ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bayesgen._internal import random_state
from bayesgen._internal.progress import Progress
from bayesgen.errors import DivergedError
from bayesgen.networks import inputs
from bayesgen.networks.admission import first_outputs, scores
from bayesgen.networks.copies import other_names
from bayesgen.networks.gradients import without_gradients
from bayesgen.pacbayes.certificates.certificate import Certificate
from bayesgen.pacbayes.certificates.request import CertificateTerms
from bayesgen.pacbayes.inverse_kl import monte_carlo
from bayesgen.pacbayes.trained.unseen import Unseen, mistaken

# Smallest probability of a class in the bounded cross-entropy.
_LEAST = 1e-4
# Share of the epochs in which the weight of the divergence grows to one.
_WARM = 0.5
# Number of observations at which each draw of weights is evaluated.
_ROWS = 64


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of the optimisation of Q.

    Attributes:
        epochs: passes over the certifying observations; 0 keeps Q = P.
        learning_rate: Adam's initial learning rate.
        draws: draws of weights in the estimate of the Gibbs risk.
        seed: seed of all random numbers.
    """

    epochs: int
    learning_rate: float
    draws: int
    seed: int


@dataclass(frozen=True)
class GaussianWeights:
    """Independent Gaussian weights of a network.

    Attributes:
        net: the network, whose own weights are not used.
        means, deviations: means and standard deviations of its parameters by name.
        batch: observations in a pass.
    """

    net: nn.Module
    means: dict[str, Tensor]
    deviations: dict[str, Tensor]
    batch: int

    def mean(self, x_new: Any) -> Tensor:
        """Outputs of the network at the mean weights, (m, C)."""
        return self._outputs(self.means, x_new)

    def sample(self, x_new: Any, seed: int = 0) -> Tensor:
        """Outputs of the network at weights drawn from Q, (m, C)."""
        return self._outputs(self.drawn(torch.Generator().manual_seed(seed)), x_new)

    def drawn(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Weights drawn from Q, by name."""
        return {
            name: mean + self.deviations[name] * _normal(mean, generator)
            for name, mean in self.means.items()
        }

    def _outputs(self, weights: dict[str, Tensor], x_new: Any) -> Tensor:
        x_new = inputs.read("x_new", x_new, self.net)
        with without_gradients():
            first_outputs(self.net, x_new)
        others = other_names(self.net)

        def at(rows: Any) -> Any:
            return inputs.call_at(self.net, weights, others, rows)

        with without_gradients():
            found = [scores(at(rows), len(rows)) for rows in x_new.split(self.batch)]
        return torch.cat(found).double()


def certificate_of(
    net: Unseen,
    scales: Sequence[float],
    asked: CertificateTerms,
    how: TrainingSettings,
    progress: Progress | None,
) -> Certificate:
    """The certificate of the best Q over stated scales c of the prior, which `asked` pays for."""
    half = asked.delta / 2
    best: tuple[float, float, _Family] | None = None
    for i, c in enumerate(scales):
        family = _Family(net, c)
        with random_state.kept([net.y.device]):
            objective = family.train(asked, how)
        if best is None or objective < best[0]:
            best = objective, c, family
        if progress is not None:
            progress(i + 1, len(scales) + 1, f"Q about the prior of scale {c:g}")
    assert best is not None
    _, c, family = best
    q, kl = family.posterior(), float(family.divergence().detach())
    observed = _estimated(q, net, how)
    risk = float(monte_carlo(observed, how.draws, half))
    if progress is not None:
        progress(len(scales) + 1, len(scales) + 1, "the Gibbs risk")
    n = len(net.y)
    kl *= 1 + 1e-9  # more than the rounding of its sum
    value = asked.theorem.function(risk, kl + asked.paid, n, half)
    return Certificate(
        bound=float(value.clamp(max=1)),
        risk=risk,
        complexity=kl,
        delta=asked.delta,
        n=n,
        loss="0–1 loss",
        predictor="gibbs",
        theorem=asked.theorem.words,
        payments=asked.payments,
        free="Q's mean and variances affect only Q, so fitting them to this bound adds nothing.",
        guessing=1 - 1 / net.classes,
        settings={"scale": c},
        notes=(
            net.note,
            f"The Gibbs risk is the upper end of an estimate of {observed:.4f} from {how.draws:,} "
            f"draws of weights at {_ROWS} observations each, which holds with probability "
            f"{1 - half:g}.",
        ),
        posterior=q,
    )


class _Family:
    """The Gaussian distributions of weights about a network, and the prior among them."""

    def __init__(self, net: Unseen, c: float) -> None:
        self.net = net
        named = {name: p for name, p in net.net.named_parameters() if p.is_floating_point()}
        self.prior = {name: p.detach().clone() for name, p in named.items()}
        sizes = {name: float(p.double().square().mean().sqrt()) for name, p in self.prior.items()}
        typical = max(sizes.values()) or 1.0
        self.spread = {name: c * (size or typical) for name, size in sizes.items()}
        self.means = {name: p.clone().requires_grad_() for name, p in self.prior.items()}
        self.logs = {
            name: torch.full_like(p, math.log(self.spread[name])).requires_grad_()
            for name, p in self.prior.items()
        }
        self.others = other_names(net.net)

    def divergence(self) -> Tensor:
        """KL(Q ‖ P) in nats, float64."""
        total = torch.zeros((), dtype=torch.float64, device=self.net.y.device)
        for name, mean in self.means.items():
            size, log = self.spread[name], self.logs[name].double()
            step = (mean.double() - self.prior[name].double()) / size
            ratio = log - math.log(size)
            total = total + 0.5 * ((2 * ratio).exp() - 1 - 2 * ratio + step.square()).sum()
        return total

    def posterior(self) -> GaussianWeights:
        """Q as it is now."""
        return GaussianWeights(
            self.net.net,
            {name: p.detach().clone() for name, p in self.means.items()},
            {name: p.detach().exp() for name, p in self.logs.items()},
            self.net.batch,
        )

    def train(self, asked: CertificateTerms, how: TrainingSettings) -> float:
        """Minimise the bound of the bounded cross-entropy, and return its last value."""
        n = len(self.net.y)
        bound, generator = asked.bound(n), torch.Generator().manual_seed(how.seed)
        every = [*self.means.values(), *self.logs.values()]
        optimiser = torch.optim.Adam(every, lr=how.learning_rate)
        steps = max(1, math.ceil(n / self.net.batch)) * how.epochs
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))
        for epoch in range(how.epochs):
            # The divergence counts less at first, since Q = P is a local minimum of many bounds.
            share = min(1.0, (epoch + 1) / max(1, _WARM * how.epochs))
            order = torch.randperm(n, generator=generator)
            for rows in order.split(self.net.batch):
                optimiser.zero_grad()
                loss = self._loss(rows, generator)
                kl = self.divergence()
                if not bool(torch.isfinite(loss + kl)):
                    raise DivergedError(
                        "the optimisation of Q has diverged: the loss is "
                        f"{float(loss.detach()):.3g} and KL {float(kl.detach()):.3g} nats at "
                        f"learning_rate={how.learning_rate:g}; take a smaller one"
                    )
                bound(loss.clamp(0, 1), share * kl).backward()
                optimiser.step()
                schedule.step()
        with torch.no_grad():
            parts = torch.arange(n).split(self.net.batch)
            losses = [self._loss(rows, generator) * len(rows) for rows in parts]
            return float(
                bound(sum(losses, self.net.y.new_zeros(()).double()) / n, self.divergence())
            )

    def _loss(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Bounded cross-entropy in [0, 1] at drawn weights, float64."""
        weights = {
            name: mean + self.logs[name].exp() * _normal(mean, generator)
            for name, mean in self.means.items()
        }
        x = self.net.x[rows]
        outputs = scores(inputs.call_at(self.net.net, weights, self.others, x), len(rows))
        p = functional.softmax(outputs.double(), 1).gather(1, self.net.y[rows][:, None])[:, 0]
        return (-p.clamp(min=_LEAST).log()).mean() / -math.log(_LEAST)


def _estimated(q: GaussianWeights, net: Unseen, how: TrainingSettings) -> float:
    """Mean 0–1 loss over independent draws of weights, each at random observations."""
    generator = torch.Generator().manual_seed(how.seed + 1)
    total = 0.0
    for _ in range(how.draws):
        rows = torch.randint(len(net.y), (_ROWS,), generator=generator)
        outputs = q._outputs(q.drawn(generator), net.x[rows])
        total += float(mistaken(outputs, net.y[rows]).double().mean())
    return total / how.draws


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)

"""Settings of the training loops, with their optimiser, schedule and order of the data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen._internal.precision import tf32

OPTIMISERS = ("sgd", "adam")
SCHEDULES = ("cosine", "constant")
ARITHMETIC = ("native", "bf16", "tf32")
_RATES = {"sgd": 0.1, "adam": 1e-3}


@dataclass(frozen=True)
class Settings:
    """Settings of a training loop, checked on creation.

    Attributes:
        epochs: passes over the data.
        batch: number of observations in a step; None for all.
        optimiser: "sgd" (with momentum) or "adam".
        learning_rate: initial learning rate; None for 0.1 (SGD) or 0.001 (Adam).
        momentum: momentum of SGD.
        schedule: "cosine", which decreases to zero, or "constant".
        arithmetic: "native" (the network's dtype), "bf16" (autocast) or "tf32" (CUDA's matrix
            products).
        seed: seed of the order of the data.
    """

    epochs: int
    batch: int | None
    optimiser: str
    learning_rate: float | None
    momentum: float
    schedule: str
    arithmetic: str
    seed: int

    def __post_init__(self) -> None:
        checks.whole("epochs", self.epochs)
        if self.batch is not None:
            checks.whole("batch", self.batch)
        checks.one_of("optimiser", self.optimiser, OPTIMISERS)
        if self.learning_rate is not None:
            checks.positive_number("learning_rate", self.learning_rate)
        checks.share("momentum", self.momentum)
        checks.one_of("schedule", self.schedule, SCHEDULES)
        checks.one_of("arithmetic", self.arithmetic, ARITHMETIC)
        checks.seed(self.seed)

    def rate(self, epoch: float) -> float:
        """Learning rate after a number of epochs."""
        start = self.learning_rate or _RATES[self.optimiser]
        if self.schedule == "constant":
            return start
        return 0.5 * start * (1 + math.cos(math.pi * epoch / self.epochs))

    def make(self, groups: Iterable[Any]) -> torch.optim.Optimizer:
        """Create the optimiser; parameter groups may have their own `weight_decay`."""
        if self.optimiser == "sgd":
            return torch.optim.SGD(groups, lr=self.rate(0), momentum=self.momentum)
        return torch.optim.Adam(groups, lr=self.rate(0))

    def order(self, epoch: int, n: int, least: int = 1) -> Iterator[Tensor]:
        """Indices of the observations in each step, determined by the seed and the epoch.

        A last step of fewer than `least` observations is joined to the step before.
        """
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + epoch)
        yield from torch.randperm(n, generator=generator).split(self._sizes(n, least))

    def steps(self, n: int, least: int = 1) -> int:
        """Number of steps in an epoch."""
        return len(self._sizes(n, least))

    def last(self, n: int) -> int:
        """Number of observations in the last step of an epoch."""
        return self._sizes(n, 1)[-1]

    def _sizes(self, n: int, least: int) -> list[int]:
        """Number of observations in each step."""
        size = self.batch or n
        full, rest = divmod(n, size)
        sizes = [size] * full + ([rest] if rest else [])
        if len(sizes) > 1 and sizes[-1] < least:
            sizes[-2:] = [sizes[-2] + sizes[-1]]
        return sizes

    def forward(self, device: torch.device) -> AbstractContextManager[Any]:
        """Context of a network's forward pass: autocast to bf16 where the settings ask for it."""
        bf16 = self.arithmetic == "bf16"
        return torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()

    def products(self) -> AbstractContextManager[None]:
        """Context of whole steps: TF32 is used only where the settings ask for it."""
        return tf32(self.arithmetic == "tf32")

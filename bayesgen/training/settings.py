"""What all training loops share: the settings, checked; optimiser, schedule, order of the data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bayesgen._internal import checks
from bayesgen._internal.precision import tf32

OPTIMISERS = ("sgd", "adam")
SCHEDULES = ("cosine", "constant")
ARITHMETIC = ("native", "bf16", "tf32")
_RATES = {"sgd": 0.1, "adam": 1e-3}


@dataclass(frozen=True)
class Settings:
    """Settings of a training loop.

    Attributes:
        epochs: passes over the data.
        batch: observations a step; None for all of them.
        optimiser: "sgd" (with momentum) or "adam".
        learning_rate: at the start; None for 0.1 (SGD) or 0.001 (Adam).
        momentum: of SGD.
        schedule: "cosine" falls to zero, "constant" does not.
        arithmetic: "native" (the network's dtype), "bf16" (autocast) or "tf32" (CUDA's matrix
            products).
        seed: of the order of the data.
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
            checks.positive("learning_rate", self.learning_rate)
        checks.share("momentum", self.momentum)
        checks.one_of("schedule", self.schedule, SCHEDULES)
        checks.one_of("arithmetic", self.arithmetic, ARITHMETIC)
        checks.whole("seed", self.seed, 0)

    def rate(self, epoch: float) -> float:
        """Learning rate so many epochs on."""
        start = self.learning_rate or _RATES[self.optimiser]
        if self.schedule == "constant":
            return start
        return 0.5 * start * (1 + math.cos(math.pi * epoch / self.epochs))

    def make(self, groups: Iterable[Any]) -> torch.optim.Optimizer:
        """The optimiser; parameter groups may have a `weight_decay` of their own."""
        if self.optimiser == "sgd":
            return torch.optim.SGD(groups, lr=self.rate(0), momentum=self.momentum)
        return torch.optim.Adam(groups, lr=self.rate(0))

    def order(self, epoch: int, n: int) -> Iterator[Tensor]:
        """Indices of each step's observations; the same for an epoch whenever it is run."""
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + epoch)
        size = self.batch or n
        yield from torch.randperm(n, generator=generator).split(size)

    def steps(self, n: int) -> int:
        """Steps an epoch."""
        return -(-n // (self.batch or n))

    def forward(self, device: torch.device) -> AbstractContextManager[Any]:
        """Around a network's forward pass: bf16 where it was asked for."""
        bf16 = self.arithmetic == "bf16"
        return torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()

    def products(self) -> AbstractContextManager[None]:
        """Around whole steps: TF32 where it was asked for, and nowhere else."""
        return tf32(self.arithmetic == "tf32")


def check_net(net: nn.Module) -> torch.device:
    """The device of a module with parameters.

    Raises:
        TypeError, ValueError: it is none, or has none.
    """
    return next(p.device for p in checks.network("net", net).parameters() if p.requires_grad)

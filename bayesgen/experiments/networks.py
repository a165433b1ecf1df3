"""Network architectures of the corruption studies, with their training and evidence."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bayesgen import networks
from bayesgen.data.dataset import Dataset
from bayesgen.errors import NotAtModeWarning
from bayesgen.evidence import Evidence
from bayesgen.models import Laplace
from bayesgen.training import fit_map, train as train_network, train_ensemble


class EstimatedEvidence(NamedTuple):
    """An estimate of log p(D) in nats, with parts where the method has them.

    Attributes:
        value, error: log p(D), and half the width of its interval for annealing; 0 for a code,
            whose length is exact.
        fit, complexity: the parts of the evidence; nan where they are unknown.
    """

    value: float
    error: float
    fit: float = math.nan
    complexity: float = math.nan


class Cell(NamedTuple):
    """Result of one model on one task: its evidence, and scores (n, C) and (m, C)."""

    evidence: Evidence | EstimatedEvidence
    fitted: Tensor
    predicted: Tensor


def images(x: Tensor) -> Tensor:
    """Reshape flat inputs (n, d) to square images, (n, channels, s, s), with 1 or 3 channels.

    Raises:
        ValueError: d is neither a square nor three times a square.
    """
    d = x.shape[1]
    for channels in (1, 3):
        side = math.isqrt(d // channels)
        if channels * side * side == d:
            return x.reshape(len(x), channels, side, side)
    raise ValueError(f"data must be square images for this model, got {d} inputs")


def seeded(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    """Result of make() with torch seeded; torch's own generator is not changed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


@dataclass(frozen=True)
class Architecture:
    """A network architecture with its training settings in a corruption study.

    Attributes:
        make: function that makes an untrained network for some data.
        inputs: data → training and new inputs in the network's layout and dtype.
        settings: settings of training.
        loss: training loss, in nats per observation, to which `fit_map` brings the trained network,
            so that evidences are compared at one loss; None leaves it as trained.
    """

    make: Callable[[Dataset], nn.Module]
    inputs: Callable[[Dataset], tuple[Tensor, Tensor]]
    settings: dict[str, Any]
    loss: float | None = None

    def alone(self, data: Dataset, labels: Tensor, seed: int) -> Cell:
        """Train one network on one task and return its results."""
        net, x, new = self.trained(data, labels, seed)
        return self._cell(net, x, new, labels)

    def untrained(self, data: Dataset, seed: int) -> tuple[nn.Module, Tensor, Tensor]:
        """A network with its initial weights, and training and new inputs in its layout."""
        x, new = self.inputs(data)
        return seeded(seed, lambda: self.make(data)).to(x), x, new

    def trained(self, data: Dataset, labels: Tensor, seed: int) -> tuple[nn.Module, Tensor, Tensor]:
        """A network trained on one task, and training and new inputs in its layout."""
        net, x, new = self.untrained(data, seed)
        train_network(net, x, labels, seed=seed, **self.settings)
        return net, x, new

    def together(self, data: Dataset, labels: Tensor, seeds: list[int]) -> list[Cell]:
        """Train one network for each task (B, n), as one ensemble."""
        x, new = self.inputs(data)
        nets = [seeded(seed, lambda: self.make(data)).to(x) for seed in seeds]
        train_ensemble(nets, x, labels, seed=seeds[0], **self.settings)
        return [self._cell(net, x, new, own) for net, own in zip(nets, labels, strict=True)]

    def _cell(self, net: nn.Module, x: Tensor, new: Tensor, labels: Tensor) -> Cell:
        """Evidence of a trained network, with one prior precision for each layer."""
        if self.loss is not None:
            fit_map(net, x, labels, prior_precision=0.0, height=-self.loss * len(x))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotAtModeWarning)  # described in `corruption_models`
            laplace = Laplace(net, prior_precision="layer", curvature="kron", dtype=None)
            posterior = laplace.fit(x, labels)
        return Cell(posterior.evidence, posterior.mean(x), posterior.mean(new))


def _flat(data: Dataset) -> tuple[Tensor, Tensor]:
    return data.x_train, data.x_test


def standardised(data: Dataset) -> tuple[Tensor, Tensor]:
    """Training and new inputs as images, (n, channels, s, s), standardised by training channel."""
    x, new = images(data.x_train), images(data.x_test)
    mean, sd = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True)
    return (x - mean) / sd, (new - mean) / sd


def _in_float32(data: Dataset) -> tuple[Tensor, Tensor]:
    x, new = standardised(data)
    return x.float(), new.float()


def _channels(data: Dataset) -> int:
    return images(data.x_train[:1]).shape[1]


NETWORKS = {
    "mlp": Architecture(
        lambda data: networks.MLP(data.x_train.shape[1], (64,), data.num_classes),
        _flat,
        {"epochs": 500, "optimiser": "adam", "learning_rate": 3e-3},
    ),
    "resnet": Architecture(
        lambda data: networks.PreResNet20(16, data.num_classes, channels=_channels(data)),
        _in_float32,
        {"epochs": 50, "learning_rate": 0.1, "prior_precision": 0.5},
        loss=0.001,
    ),
}

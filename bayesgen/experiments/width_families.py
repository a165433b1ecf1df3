"""Families of networks of growing width, and the training of one width for several seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bayesgen import likelihoods, networks, verify
from bayesgen._internal.progress import ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.data.dataset import Dataset
from bayesgen.experiments.executor import Job, Values, sweep
from bayesgen.experiments.networks import images, seeded, standardised
from bayesgen.likelihoods.likelihood import Likelihood
from bayesgen.training import train as train_network

# Networks of one width, their inputs, targets of each network, seeds, and number of epochs.
Train = Callable[[list[nn.Module], Tensor, Tensor, Sequence[int], int], None]


@dataclass(frozen=True)
class WidthFamily:
    """Networks that differ in their width, with their data, loss and training.

    Attributes:
        says: description of the networks.
        make: (width, data) → an untrained network.
        inputs: data → training and new inputs, float32.
        train: function that trains the networks of several seeds in place.
        squared: True for the squared loss Σ_c (y_c − f_c)² of one-hot codes, False for the
            cross-entropy, nats.
        widths: widths of the study.
        points: number of training points; None for all.
        epochs: number of passes over the training data.
    """

    says: str
    make: Callable[[int, Dataset], nn.Module]
    inputs: Callable[[Dataset], tuple[Tensor, Tensor]]
    train: Train
    squared: bool
    widths: tuple[int, ...]
    points: int | None
    epochs: int

    def likelihood(self) -> Likelihood:
        """The likelihood whose −log p(y | f) is the loss, up to a constant."""
        return likelihoods.Gaussian(0.5) if self.squared else likelihoods.Softmax()

    def targets(self, labels: Tensor, classes: int) -> Tensor:
        """Targets of the loss: one-hot codes (…, n, C), float32, or the labels (…, n)."""
        if not self.squared:
            return labels
        return torch.nn.functional.one_hot(labels, classes).float()

    def network(self, width: int, data: Dataset, seed: int) -> nn.Module:
        """The untrained network of a seed, on the device of the data."""
        net = seeded(seed, lambda: self.make(width, data))
        return net.to(device=data.x_train.device, dtype=torch.float32)

    def loss(self, f: Tensor, y: Tensor) -> Tensor:
        """Mean loss over observations, (), of outputs (n, C) against targets."""
        if self.squared:
            return (f - y).square().sum(1).mean()
        return torch.nn.functional.cross_entropy(f, y)


def train_two_layers(
    nets: list[nn.Module], x: Tensor, y: Tensor, seeds: Sequence[int], steps: int
) -> None:
    """Train networks Linear–ReLU–Linear together on the squared loss by full-batch Adam.

    The learning rate falls from 0.003 to zero with a cosine schedule. One batched matrix product
    for each layer takes a fraction of the time of `bayesgen.train_ensemble` for networks this
    small. Its gradients are compared with those of one of the networks before training.

    Args:
        nets: B networks `bayesgen.networks.MLP` of one hidden layer, trained in place.
        x: inputs, (n, d).
        y: targets of each network, (B, n, C).
        seeds: one for each network; unused, because full batches have no order.
        steps: number of steps.

    Raises:
        RuntimeError: the gradients of the batched networks are not those of the networks.
    """
    own = [list(net.parameters()) for net in nets]
    W1, b1, W2, b2 = (torch.stack([p.detach() for p in group]) for group in zip(*own, strict=True))
    # The fused optimiser needs gradients in the memory layout of the weights.
    stacked = [p.clone(memory_format=torch.contiguous_format) for p in
               (W1.mT, b1[:, None], W2.mT, b2[:, None])]  # fmt: skip
    rows = x.expand(len(nets), -1, -1)
    _check_together(nets, x, y, _gradients(stacked, rows, y))
    for p in stacked:
        p.requires_grad_()
    optimiser = torch.optim.Adam(stacked, lr=3e-3, fused=True)
    with torch.no_grad():
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = 1.5e-3 * (1 + math.cos(math.pi * step / steps))
            for p, gradient in zip(stacked, _gradients(stacked, rows, y), strict=True):
                p.grad = gradient
            optimiser.step()
        for b, parameters in enumerate(own):
            for p, group in zip(parameters, stacked, strict=True):
                p.copy_(group[b].mT if p.ndim == 2 else group[b, 0])
    for net in nets:
        net.eval()


def _gradients(stacked: list[Tensor], x: Tensor, y: Tensor) -> list[Tensor]:
    """Gradients of the mean squared loss of each network, for inputs (B, n, d).

    Autograd would take twice the time of these products for networks this small.
    """
    W1, b1, W2, b2 = stacked
    hidden = torch.baddbmm(b1, x, W1).relu_()
    rest = torch.baddbmm(b2, hidden, W2).sub_(y).mul_(2 / x.shape[1])
    back = torch.bmm(rest, W2.mT).mul_(hidden > 0)
    return [
        torch.bmm(x.mT, back),
        back.sum(1, keepdim=True),
        torch.bmm(hidden.mT, rest),
        rest.sum(1, keepdim=True),
    ]


def _check_together(nets: list[nn.Module], x: Tensor, y: Tensor, found: list[Tensor]) -> None:
    """Compare the gradient of one of the networks trained together with that by autograd."""
    b = len(nets) - 1
    loss = (nets[b](x) - y[b]).square().sum(1).mean()
    right = torch.autograd.grad(loss, list(nets[b].parameters()))
    check = verify.compare(
        "gradients of networks trained together",
        torch.cat([g[b].mT.reshape(-1) for g in found]),
        torch.cat([g.reshape(-1) for g in right]),
    )
    if not check.passed:
        raise RuntimeError(f"networks trained together differ from single ones: {check}")


def _one_by_one(settings: dict[str, Any], augmented: bool = False) -> Train:
    """A function that trains one network after the other by `bayesgen.train`."""

    def run(nets: list[nn.Module], x: Tensor, y: Tensor, seeds: Sequence[int], epochs: int) -> None:
        chosen = dict(settings)
        decay = chosen.pop("weight_decay", 0.0)
        for net, own, seed in zip(nets, y, seeds, strict=True):
            augment = cropped_and_flipped(seed) if augmented else None
            train_network(net, x, own, epochs=epochs, seed=seed, augment=augment,
                          prior_precision=decay * len(x), **chosen)  # fmt: skip

    return run


def cropped_and_flipped(seed: int, padding: int = 4) -> Callable[[Tensor], Tensor]:
    """A function that shifts and mirrors images (n, c, s, s) at random, each on its own.

    Args:
        seed: seed of the draws, which go on from call to call.
        padding: largest shift in each direction, in pixels; zeros come in at the border.

    Source: He et al. (2016).
    """
    generator = torch.Generator().manual_seed(seed)

    def augment(x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        padded = torch.nn.functional.pad(x, [padding] * 4)
        shift = torch.randint(2 * padding + 1, (2, n, 1), generator=generator).to(x.device)
        mirror = (torch.rand(n, 1, generator=generator) < 0.5).to(x.device)
        columns = torch.arange(width, device=x.device).expand(n, -1)
        columns = torch.where(mirror, width - 1 - columns, columns) + shift[1]
        lines = torch.arange(height, device=x.device) + shift[0]
        every = torch.arange(n, device=x.device)[:, None, None]
        moved = padded.movedim(1, 3)[every, lines[:, :, None], columns[:, None, :]]
        # `contiguous` would leave images of one channel in channels-last layout, for which oneDNN's
        # convolutions with few channels write beyond their memory.
        return moved.movedim(3, 1).clone(memory_format=torch.contiguous_format)

    return augment


def _pixels(data: Dataset) -> tuple[Tensor, Tensor]:
    return data.x_train.float(), data.x_test.float()


def _images(data: Dataset) -> tuple[Tensor, Tensor]:
    x, new = standardised(data)
    return x.float(), new.float()


def _channels(data: Dataset) -> int:
    return images(data.x_train[:1]).shape[1]


FAMILIES: dict[str, WidthFamily] = {
    "mlp": WidthFamily(
        "two-layer ReLU networks, squared loss, full-batch Adam",
        lambda width, data: networks.MLP(data.x_train.shape[1], (width,), data.num_classes),
        _pixels,
        train_two_layers,
        True,
        (8, 16, 24, 32, 64, 128, 192),
        150,
        3000,
    ),
    "convnet": WidthFamily(
        "networks of three convolutions, cross-entropy, Adam",
        lambda width, data: networks.ConvNet(width, data.num_classes, channels=_channels(data)),
        _images,
        _one_by_one({"optimiser": "adam", "learning_rate": 3e-3, "batch": 100}),
        False,
        (2, 4, 8, 16),
        300,
        100,
    ),
    "resnet18": WidthFamily(
        "pre-activation ResNet-18 with BatchNorm, cross-entropy, SGD with crop and flip",
        lambda width, data: networks.ResNet18(width, data.num_classes, channels=_channels(data)),
        _images,
        _one_by_one(
            {"learning_rate": 0.01, "schedule": "constant", "batch": 128, "weight_decay": 1e-4},
            augmented=True,
        ),
        False,
        (*range(1, 20), 22, 26, 30, 34, 40, 46, 52, 58, 64, 65),
        None,
        200,
    ),
}


@dataclass(frozen=True)
class WidthTask:
    """Networks of one width on the labels of several seeds.

    Attributes:
        name: a name in `FAMILIES`.
        width: width of the networks.
        data: data, whose training labels are the clean ones.
        level: probability with which each training label was redrawn.
        labels: training labels of each seed, (S, n).
        seeds: seeds of the labels, of the initial weights and of the order of the data.
        epochs: number of passes over the training data.
    """

    name: str
    width: int
    data: Dataset
    level: float
    labels: Tensor
    seeds: tuple[int, ...]
    epochs: int

    @property
    def family(self) -> WidthFamily:
        """The family of the networks."""
        return FAMILIES[self.name]

    def mark(self) -> list[Any]:
        """What the trained networks depend on beside their name."""
        return [self.family.says, self.data.fingerprint, self.labels, self.seeds, self.epochs]

    def title(self) -> str:
        """Name of the task for files and progress."""
        return f"{self.name} of width {self.width}, level {self.level:g}"


@shows_progress
def train_all(
    tasks: Sequence[WidthTask], *, store: Any = None, progress: ProgressOption = None
) -> list[Values]:
    """Train the networks of every task; each task is one cell of a sweep.

    Returns:
        For each task, `state` (S, D) with the trained weights and buffers (see `restored`), and
        train_loss, test_loss, train_error and test_error, (S,).
    """
    jobs = [Job(f"training, {task.title()}", trained, (task,)) for task in tasks]
    return sweep(jobs, [task.mark() for task in tasks], store=store, progress=progress)


def trained(task: WidthTask) -> Values:
    """Train the networks of one task; see `train_all`."""
    family, data = task.family, task.data
    x, new = family.inputs(data)
    nets = [family.network(task.width, data, seed) for seed in task.seeds]
    y = family.targets(task.labels, data.num_classes)
    clean = family.targets(data.y_test, data.num_classes)
    family.train(nets, x, y, task.seeds, task.epochs)
    columns: dict[str, list[float]] = {}
    for net, own, labels in zip(nets, y, task.labels, strict=True):
        with torch.no_grad():
            fitted, predicted = outputs(net, x), outputs(net, new)
        row = {
            "train_loss": family.loss(fitted, own),
            "test_loss": family.loss(predicted, clean),
            "train_error": (fitted.argmax(1) != labels).double().mean(),
            "test_error": (predicted.argmax(1) != data.y_test).double().mean(),
        }
        for name, value in row.items():
            columns.setdefault(name, []).append(float(value))
    state = torch.stack([flat_state(net) for net in nets]).cpu().numpy()
    return {"state": state, "parameters": sum(p.numel() for p in nets[0].parameters()), **columns}


def outputs(net: nn.Module, x: Tensor, batch: int = 1000) -> Tensor:
    """Outputs (n, C), batch by batch."""
    return torch.cat([net(rows) for rows in x.split(batch)])


def flat_state(net: nn.Module) -> Tensor:
    """All parameters and buffers of a network as one vector, (D,) float32."""
    return torch.cat([value.detach().reshape(-1).float() for value in net.state_dict().values()])


def restored(task: WidthTask, state: Any, seed: int) -> nn.Module:
    """The network of one seed with the state of `flat_state`, in evaluation mode."""
    net = task.family.network(task.width, task.data, seed)
    values = list(net.state_dict().values())
    parts = torch.as_tensor(state).split([value.numel() for value in values])
    with torch.no_grad():
        for value, part in zip(values, parts, strict=True):
            value.copy_(part.view_as(value))
    return net.eval()

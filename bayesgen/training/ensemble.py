"""Train many networks of one architecture at once, on tasks with the same inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from bayesgen._internal import checks
from bayesgen._internal.progress import Progress
from bayesgen._internal.progress_bar import reporting
from bayesgen.errors import DivergedError
from bayesgen.likelihoods import Gaussian
from bayesgen.likelihoods.likelihood import Likelihood, resolve
from bayesgen.models.network.data import inputs
from bayesgen.provenance import training
from bayesgen.training.settings import Settings, check_net


@training("bayesgen.train_ensemble")
def train_ensemble(
    nets: Sequence[nn.Module],
    x: Any,
    y: Any,
    likelihood: str | Likelihood = "categorical",
    *,
    epochs: int = 40,
    batch: int | None = 128,
    optimiser: str = "sgd",
    learning_rate: float | None = None,
    momentum: float = 0.9,
    schedule: str = "cosine",
    prior_precision: float = 0.0,
    arithmetic: str = "native",
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> pd.DataFrame:
    """Train B networks together, one task each, in place, with `torch.func.vmap`.

    A small network uses little of a GPU; B of them together use it well. On a CPU the same code is
    slower than training one network after the other. All networks process the observations in the
    same order, each from its own initial weights.

    Args:
        nets: B networks of one architecture, on one device.
        x: inputs (n, …), shared by all networks.
        y: B tasks: labels (B, n), or real targets (B, n, C).
        likelihood: as in `bayesgen.Laplace`; with "gaussian" the noise variance is 1.
        epochs, batch, optimiser, learning_rate, momentum, schedule, arithmetic, seed: as in
            `bayesgen.train`.
        prior_precision: α ≥ 0, for all weights.
        progress: called as progress(done, expected, what) after each step; True shows a progress
            bar.

    Returns:
        Loss of every network after each epoch, (epochs, B).

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.
        DivergedError: the loss of a network is not finite; the message lists the networks. All
            networks keep their weights from after the last complete epoch.

    Example:
        >>> import bayesgen as bg
        >>> data = bg.data.load("digits", train=100, dtype=torch.float32)
        >>> y = torch.stack([data.y_train, data.y_train.flip(0)])
        >>> losses = train_ensemble([bg.networks.MLP(64) for _ in y], data.x_train, y, epochs=2)
        >>> losses.shape
        (2, 2)
    """
    settings = Settings(
        epochs, batch, optimiser, learning_rate, momentum, schedule, arithmetic, seed
    )
    members = list(nets)
    if not members:
        raise ValueError("nets must hold at least one network, got none")
    devices = {check_net(net) for net in members}
    x = inputs(x)
    if devices != {x.device}:
        raise ValueError(f"nets and x must be on one device, got {devices} and {x.device}")
    if not prior_precision >= 0:
        raise ValueError(f"prior_precision must be at least 0, got {prior_precision}")
    y, own = _targets(members, x, y, resolve(likelihood) or Gaussian())
    for net in members:
        net.train()
    parameters, buffers = stack_module_state(members)
    skeleton = members[0]
    group = {"params": list(parameters.values()), "weight_decay": prior_precision / len(x)}
    optim = settings.make([group])

    def losses(p: dict[str, Tensor], b: dict[str, Tensor], rows: Tensor, labels: Tensor) -> Tensor:
        return -own.log_density(labels, functional_call(skeleton, (p, b), (rows,))).mean()

    every = vmap(losses, in_dims=(0, 0, None, 0), randomness="different")
    history, steps = [], settings.steps(len(x))
    with reporting(progress) as report, settings.products():
        for epoch in range(epochs):
            before = {
                name: value.detach().clone() for name, value in (parameters | buffers).items()
            }
            total = x.new_zeros(len(members))
            for step, index in enumerate(settings.order(epoch, len(x))):
                for each in optim.param_groups:
                    each["lr"] = settings.rate(epoch + step / steps)
                optim.zero_grad(set_to_none=True)
                with settings.forward(x.device):
                    values = every(parameters, buffers, x[index], y[:, index])
                if not torch.isfinite(values.detach()).all():
                    bad = (~torch.isfinite(values.detach())).nonzero()[:, 0].tolist()
                    _write(members, before)
                    raise DivergedError(
                        f"the loss of network(s) {bad} is not finite at step {step + 1} of epoch "
                        f"{epoch + 1}; all are as they were after the epoch before"
                    )
                values.sum().backward()
                optim.step()
                total += values.detach() * len(index)
                if report is not None:
                    said = f"epoch {epoch + 1}: mean loss {float(values.detach().mean()):.3f}"
                    report(epoch * steps + step + 1, epochs * steps, said)
            history.append((total / len(x)).tolist())
    _write(members, {name: value.detach() for name, value in (parameters | buffers).items()})
    return pd.DataFrame(history).rename_axis(index="epoch", columns="network")


def _targets(
    members: list[nn.Module], x: Tensor, y: Any, likelihood: Likelihood
) -> tuple[Tensor, Likelihood]:
    """Targets in the likelihood's inner form, (B, n, ...), and the likelihood for the networks."""
    labels = checks.as_tensor("y", y)
    if labels.ndim < 2 or len(labels) != len(members):
        raise ValueError(
            f"y must hold one task for each of {len(members)} networks, (B, n) or (B, n, C), "
            f"got {tuple(labels.shape)}"
        )
    with torch.no_grad():
        f = members[0].eval()(x[:1]).expand(len(x), -1)
    own = likelihood.for_outputs(f.shape[1], labels[0].shape)
    return torch.cat([own.targets(each, f) for each in labels]), own


def _write(members: list[nn.Module], stacked: dict[str, Tensor]) -> None:
    """Write each network's part of the stacked state back into it."""
    for number, net in enumerate(members):
        net.load_state_dict({name: value[number] for name, value in stacked.items()})
        net.eval()

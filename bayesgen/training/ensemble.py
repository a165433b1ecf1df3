"""Train many networks of one architecture at once, on tasks with the same inputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import stack_module_state, vmap

from bayesgen._internal import checks
from bayesgen._internal.progress import Progress
from bayesgen._internal.progress_bar import reporting
from bayesgen.errors import DivergedError
from bayesgen.likelihoods import Gaussian
from bayesgen.likelihoods.likelihood import Likelihood, resolve
from bayesgen.networks.admission import scores, undisturbed
from bayesgen.networks.copies import other_names
from bayesgen.networks.gradients import Passes, differentiating, fill_gradients, trainable
from bayesgen.networks.inputs import call, call_at
from bayesgen.networks.state import Kept
from bayesgen.provenance import training
from bayesgen.training.inputs import read
from bayesgen.training.settings import Settings
from bayesgen.training.smallest_batch import smallest_batch
from bayesgen.verify import compare


@training("bayesgen.train_ensemble")
@differentiating()
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
    same order, each from its own initial weights. The networks are left as `bayesgen.train` leaves
    one network.

    Args:
        nets: B different networks of one architecture, on one device.
        x: inputs (n, …), shared by all networks; see `bayesgen.train`.
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
        DivergedError: the loss, a gradient or a weight of a network is not finite; the message
            lists the networks. All networks keep their weights from after the last complete epoch.

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
    if isinstance(nets, nn.Module) or not isinstance(nets, Iterable):
        raise TypeError(f"nets must be a sequence of networks, got {type(nets).__name__}")
    given = list(nets)
    members = _members(given)
    if not prior_precision >= 0:
        raise ValueError(f"prior_precision must be at least 0, got {prior_precision}")
    with Kept(*given) as kept:
        x = read(members[0], x, y)
        with undisturbed(members[0].eval()):
            run = Passes(members[0], x)
        y, own = _targets(len(members), run.first[:1].expand(len(x), -1), y, likelihood)
        least = smallest_batch(members[0], run, x, settings)
        together = _Together(members, own)
        together.try_on(x, y)
        group = {"params": together.weights, "weight_decay": prior_precision / len(x)}
        optim = settings.make([group])
        history, steps = [], settings.steps(len(x), least)
        with reporting(progress) as report, settings.products():
            for epoch in range(epochs):
                total = y.new_zeros(len(members))
                for step, index in enumerate(settings.order(epoch, len(x), least)):
                    index = index.to(x.device)
                    for each in optim.param_groups:
                        each["lr"] = settings.rate(epoch + step / steps)
                    optim.zero_grad(set_to_none=True)
                    with settings.forward(x.device):
                        values = together(x[index], y[:, index])
                    _finite("the loss", values.detach()[:, None], epoch, step)
                    values.sum().backward()
                    together.fill_gradients()
                    for gradient in together.gradients():
                        _finite("a gradient", gradient.flatten(1), epoch, step)
                    optim.step()
                    total += values.detach() * len(index)
                    if report is not None:
                        said = f"epoch {epoch + 1}: mean loss {float(values.detach().mean()):.3f}"
                        report(epoch * steps + step + 1, epochs * steps, said)
                for weight in together.floats():
                    _finite("a weight", weight.detach().flatten(1), epoch, steps - 1)
                together.write()
                kept.record()
                history.append((total / len(x)).tolist())
    return pd.DataFrame(history).rename_axis(index="epoch", columns="network")


def _members(nets: list[nn.Module]) -> list[nn.Module]:
    """The networks without wrappers, after a check that they are different and of one kind."""
    members = [trainable(net, f"nets[{number}]") for number, net in enumerate(nets)]
    if not members:
        raise ValueError("nets must hold at least one network, got none")
    if len({id(net) for net in members}) < len(members):
        raise ValueError("nets must hold different networks, got one of them twice")
    layouts = [
        {name: (tuple(p.shape), p.dtype, p.requires_grad) for name, p in net.named_parameters()}
        for net in members
    ]
    for number, layout in enumerate(layouts):
        if layout != layouts[0] or type(members[number]) is not type(members[0]):
            raise ValueError(
                "nets must be of one architecture, with the same parameters trained, but nets[0] "
                f"and nets[{number}] differ"
            )
    devices = {p.device for net in members for p in net.parameters()}
    if len(devices) > 1:
        raise ValueError(f"nets must be on one device, got {sorted(map(str, devices))}")
    return members


class _Together:
    """Networks of one architecture as one function of their stacked parameters."""

    def __init__(self, members: list[nn.Module], likelihood: Likelihood) -> None:
        for net in members:
            net.train()
        self.members, self.likelihood = members, likelihood
        trained = {name for name, p in members[0].named_parameters() if p.requires_grad}
        # Parameters that are not trained are stacked like buffers.
        with torch.no_grad():
            stacked, self.buffers = stack_module_state(members)
        self.parameters = {name: value.detach() for name, value in stacked.items()}
        for name in trained:
            self.parameters[name].requires_grad_()
        self.weights = [self.parameters[name] for name in self.parameters if name in trained]
        self._others = other_names(members[0])
        self._run = vmap(self._loss, in_dims=(0, 0, None, 0), randomness="different")

    def _loss(
        self, p: dict[str, Tensor], b: dict[str, Tensor], rows: Any, labels: Tensor
    ) -> Tensor:
        f = scores(call_at(self.members[0], {**p, **b}, self._others, rows), len(labels))
        f = f if f.dtype == labels.dtype else f.to(labels.dtype)  # after autocast
        return -self.likelihood.log_density(labels, f).mean()

    def __call__(self, rows: Any, labels: Tensor) -> Tensor:
        """Mean loss of each network on a batch, (B,)."""
        found: Tensor
        if isinstance(rows, Tensor):
            found = self._run(self.parameters, self.buffers, rows, labels)
        else:  # vmap takes tensors only; the inputs are shared and need no axis of networks
            found = vmap(
                lambda p, b, y: self._loss(p, b, rows, y), in_dims=0, randomness="different"
            )(self.parameters, self.buffers, labels)
        return found

    def try_on(self, x: Any, y: Tensor) -> None:
        """Check on two rows that all networks can be run at once, with the right gradients.

        Raises:
            ValueError: an operation of the networks cannot be run so, or gives other values.
        """
        kept = {name: value.clone() for name, value in self.buffers.items()}
        rows, labels = x[:2], y[:, :2]
        try:
            with undisturbed(self.members[0]):
                self._backward(self(rows, labels))  # in training mode, which changes the buffers
                self.buffers = {name: value.clone() for name, value in kept.items()}
                for net in self.members:
                    net.eval()
                together = self._backward(self(rows, labels))
                alone = self._alone(rows, labels)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as err:
            words = (str(err).strip().splitlines() or [type(err).__name__])[0]
            raise ValueError(
                f"nets cannot be run together by torch.func.vmap ({words}); train them one by one "
                "with bayesgen.train"
            ) from err
        finally:
            self.buffers = kept
            for net in self.members:
                net.train()
        check = compare("losses and gradients of networks run together", together[0], alone)
        if not check.passed:
            raise ValueError(
                "nets must give the same losses and gradients together, by torch.func.vmap, as "
                f"alone, but they differ by {check.difference:.2g} of the largest value; train "
                "them one by one with bayesgen.train"
            )

    def _backward(self, losses: Tensor) -> Tensor:
        """The losses and their gradients in the trained parameters, (B, 1 + P)."""
        parts = torch.autograd.grad(losses.sum(), self.weights, materialize_grads=True)
        flat = [part.flatten(1) for part in parts]
        return torch.cat([losses.detach()[:, None], *flat], 1)

    def _alone(self, rows: Any, labels: Tensor) -> Tensor:
        """The same for the first network, (1 + P,), without stacked parameters."""
        net = self.members[0]
        own = [p for p in net.parameters() if p.requires_grad]
        f = scores(call(net, rows), len(rows)).to(labels.dtype)
        loss = -self.likelihood.log_density(labels[0], f).mean()
        parts = torch.autograd.grad(loss, own, materialize_grads=True)
        return torch.cat([loss.detach().reshape(1), *(part.reshape(-1) for part in parts)])

    def fill_gradients(self) -> None:
        """Set the gradients of parameters that the losses do not depend on to zero."""
        fill_gradients(self.weights)

    def gradients(self) -> list[Tensor]:
        """Gradients of the trained parameters, (B, …) each."""
        return [p.grad for p in self.weights if p.grad is not None]

    def floats(self) -> list[Tensor]:
        """Trained parameters and floating-point buffers, (B, …) each."""
        return [*self.weights, *(b for b in self.buffers.values() if b.is_floating_point())]

    def write(self) -> None:
        """Write each network's part of the stacked state back into it."""
        with torch.no_grad():
            for number, net in enumerate(self.members):
                for name, value in (*net.named_parameters(), *net.named_buffers()):
                    value.copy_((self.parameters | self.buffers)[name][number])


def _targets(count: int, f: Tensor, y: Any, likelihood: Any) -> tuple[Tensor, Likelihood]:
    """Targets in the likelihood's inner form, (B, n, ...), and the likelihood for the networks."""
    found, y, _ = (resolve(likelihood) or Gaussian()).numbered(y)
    labels = checks.as_tensor("y", y)
    if labels.ndim < 2 or len(labels) != count:
        raise ValueError(
            f"y must hold one task for each of {count} networks, (B, n) or (B, n, C), "
            f"got {tuple(labels.shape)}"
        )
    own = found.for_outputs(f.shape[1], labels[0].shape)
    return checks.owned(torch.cat([own.targets(each, f) for each in labels])), own


def _finite(what: str, values: Tensor, epoch: int, step: int) -> None:
    """Raise an error that lists the networks whose values (B, k) are not all finite."""
    bad = (~torch.isfinite(values).all(1)).nonzero()[:, 0].tolist()
    if bad:
        before = "after the epoch before" if epoch else "before the training"
        raise DivergedError(
            f"{what} of {'network' if len(bad) == 1 else 'networks'} {bad} is not finite at step "
            f"{step + 1} of epoch {epoch + 1}; all are as they were {before}"
        )

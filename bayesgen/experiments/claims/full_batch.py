"""Experiment: generalisation of full-batch gradient descent against SGD at one training loss."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import nn

from bayesgen import data as datasets, networks, plots
from bayesgen._internal import checks
from bayesgen._internal.progress import ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.data.dataset import Dataset
from bayesgen.experiments.executor import Job, Values, sweep
from bayesgen.experiments.experiment import claim, experiment, provenance
from bayesgen.experiments.networks import seeded, standardised
from bayesgen.training import train

BATCHES = (10, 50, 0)
_RATE, _HIDDEN, _WIDTH = 0.2, 64, 8
# Share of the epochs so far after which the loss is looked at again, and most epochs.
_STRIDE, _MOST = 0.1, 40_000
# Difference of test errors below which two optimisers are said to generalise alike.
MARGIN = 0.01


@experiment(
    plot=plots.full_batch, quick={"seeds": 3, "architectures": ("MLP",), "n": 300, "loss": 0.03}
)
@shows_progress
def full_batch(
    *,
    architectures: Sequence[str] = ("MLP", "ConvNet"),
    n: int = 500,
    loss: float = 0.02,
    seeds: int = 5,
    seed: int = 0,
    store: str | os.PathLike[str] | None = None,
    progress: ProgressOption = None,
    command: str | None = None,
) -> xr.Dataset:
    """Test error of full-batch gradient descent against SGD, at the same training loss.

    Networks are trained on scikit-learn's digits by gradient descent without momentum at one
    learning rate, with batches of 10, of 50 and of all n observations, until the training loss is
    at most `loss`. Networks with one seed start from the same weights. The loss is looked at after
    every tenth of the epochs so far, so that losses at the end differ by a few percent.

    Geiping et al. train a ResNet-18 on CIFAR-10 and find that full batches reach the error of SGD
    with a regulariser of the gradient; here the networks are small, and there is no regulariser, no
    momentum and no augmentation.

    Args:
        architectures: "MLP" (one hidden layer of 64 units) and "ConvNet".
        n: number of training data, at most 1400.
        loss: training loss at which training ends, nats per observation.
        seeds: number of draws of data, initial weights and batches.
        seed: first seed.
        store: folder for the results of single cells, so that an interrupted run continues.
        progress: called as progress(done, expected, what); True shows a progress bar.
        command: command to record in the result; None records this call.

    Returns:
        Dataset of dims (network, seed, batch), where batch 0 is all data: train_loss, test_loss
        (nats per observation), test_error, epochs, steps.

    Raises:
        ValueError: a number is out of range; an unknown network.

    Source: Geiping et al. (2022); Wilson (2025), section 3.

    Example:
        >>> cell = descent("MLP", 60, 0.5, 30, 0)
        >>> 0 < cell["train_loss"] <= 0.5
        True
    """
    chosen = checks.names("architectures", architectures, ("MLP", "ConvNet"))
    n, seeds = checks.whole("n", n, 20), checks.whole("seeds", seeds, 2)
    loss, seed = checks.positive_number("loss", loss), checks.seed(seed)
    numbers = range(seed, seed + seeds)
    jobs = [
        Job(f"{name}, batch {batch or n}", descent, (name, n, loss, batch, s))
        for name in chosen
        for s in numbers
        for batch in BATCHES
    ]
    cells = sweep(jobs, [job.arguments for job in jobs], store=store, progress=progress)
    units = {"train_loss": "nats", "test_loss": "nats"}
    shape = (len(chosen), seeds, len(BATCHES))
    result = xr.Dataset(
        {
            name: (
                ("network", "seed", "batch"),
                np.array([cell[name] for cell in cells]).reshape(shape),
                {"units": units.get(name, "1"), "long_name": name.replace("_", " ")},
            )
            for name in ("train_loss", "test_loss", "test_error", "epochs", "steps")
        },
        coords={"network": chosen, "seed": list(numbers), "batch": list(BATCHES)},
        attrs={"title": "Full batches and SGD at one training loss", "n": n, "loss": loss},
    )
    result.attrs |= _claim(result)
    said = f"full_batch(architectures={chosen}, {n=}, {loss=}, {seeds=}, {seed=})"
    return result.assign_attrs(**provenance(command or said))


def descent(name: str, n: int, loss: float, batch: int, seed: int) -> Values:
    """One network trained to a loss; batch 0 is all data.

    Returns:
        train_loss, test_loss, test_error, epochs, steps.

    Raises:
        RuntimeError: the loss is not reached in 40,000 epochs.
    """
    data = datasets.load("digits", train=n, test=None, seed=seed)
    x, new = (part.float() for part in standardised(data))
    net = seeded(seed, lambda: _network(name, data))
    done = 0
    found = _loss(net, x, data.y_train)
    while found > loss:
        if done >= _MOST:
            raise RuntimeError(f"{name} with batch {batch}: loss {found:.3g} after {done} epochs")
        more = max(1, round(_STRIDE * done))
        train(
            net, x, data.y_train, epochs=more, batch=batch or None, learning_rate=_RATE,
            momentum=0.0, schedule="constant", seed=seed + 1000 * done,
        )  # fmt: skip
        done += more
        found = _loss(net, x, data.y_train)
    with torch.no_grad():
        wrong = float((net(new).argmax(-1) != data.y_test).double().mean())
    return {
        "train_loss": found,
        "test_loss": _loss(net, new, data.y_test),
        "test_error": wrong,
        "epochs": float(done),
        "steps": float(done * -(-n // (batch or n))),
    }


def _network(name: str, data: Dataset) -> nn.Module:
    if name == "MLP":
        return networks.MLP(data.x_train.shape[1], (_HIDDEN,), data.num_classes)
    return networks.ConvNet(_WIDTH, data.num_classes, channels=1)


def _loss(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    with torch.no_grad():
        return float(nn.functional.cross_entropy(net(x), y))


def _claim(result: xr.Dataset) -> dict[str, str]:
    """Attributes with the sources' claim and this result."""
    error = result.test_error
    gap = error.sel(batch=0) - error.isel(batch=0)
    mean = gap.mean("seed")
    spread = gap.std("seed", ddof=1) / np.sqrt(gap.sizes["seed"])
    parts = [
        f"{name}: "
        + ", ".join(
            f"{float(error.sel(network=name, batch=b).mean()):.1%} "
            f"(batches of {int(b) or result.n})"
            for b in result.batch.values
        )
        + f", and full batches differ from batches of {int(result.batch[0])} by "
        f"{float(mean.sel(network=name)):+.2%} ± {float(spread.sel(network=name)):.2%}"
        for name in result.network.values
    ]
    alike = abs(mean) < MARGIN
    worse = mean > MARGIN + 2 * spread
    return claim(
        "The noise of SGD is not needed for generalisation: full-batch gradient descent "
        "generalises as well.",
        f"Mean test errors at training losses of {float(result.train_loss.min()):.4f} to "
        f"{float(result.train_loss.max()):.4f} nats: " + "; ".join(parts) + ".",
        "yes" if bool(alike.all()) else "no" if bool(worse.any()) else "partly",
    )

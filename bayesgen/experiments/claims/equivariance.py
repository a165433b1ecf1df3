"""Experiment: invariance of three architectures to shifts, before and after training."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from bayesgen import networks, plots
from bayesgen._internal import checks
from bayesgen._internal.progress import ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.experiments import soft_bias_tasks as tasks
from bayesgen.experiments.executor import Job, Values, sweep
from bayesgen.experiments.experiment import claim, experiment, provenance
from bayesgen.experiments.networks import seeded
from bayesgen.training import train

NETWORKS = ("ConvNet", "transformer", "MLP")
SHIFTS = ((0, 1), (0, -1), (1, 0), (-1, 0))
_PATCH, _WIDTH, _HEADS = 4, 32, 4
# Smallest number of test images.
_TESTED = 100
# Factor to which the error of invariance must fall, and most that it may exceed the ConvNet's.
FALL, NEAR = 0.7, 1.5


class ImageTransformer(nn.Module):
    """A small vision transformer: patches, learnt places, one block of attention, mean, linear."""

    def __init__(self, side: int, classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, _WIDTH, _PATCH, stride=_PATCH // 2)
        count = ((side - _PATCH) // (_PATCH // 2) + 1) ** 2
        self.places = nn.Parameter(0.5 * torch.randn(count, _WIDTH))
        self.before, self.after = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)
        self.mix = nn.Linear(_WIDTH, 3 * _WIDTH)
        self.out = nn.Linear(_WIDTH, _WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(_WIDTH, 2 * _WIDTH), nn.GELU(), nn.Linear(2 * _WIDTH, _WIDTH)
        )
        self.head = nn.Linear(_WIDTH, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, 1, side, side)."""
        h = self.patches(x).flatten(2).mT + self.places
        n, count, _ = h.shape
        mixed = self.mix(self.before(h)).reshape(n, count, 3, _HEADS, -1).permute(2, 0, 3, 1, 4)
        q, k, v = mixed
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        h = h + self.out((weights @ v).transpose(1, 2).reshape(n, count, _WIDTH))
        h = h + self.mlp(self.after(h))
        logits: Tensor = self.head(h.mean(1))
        return logits


@experiment(plot=plots.equivariance, quick={"seeds": 2, "epochs": 30, "sizes": (50, 400)})
@shows_progress
def equivariance(
    *,
    sizes: Sequence[int] = (50, 100, 200, 400),
    epochs: int = 150,
    seeds: int = 5,
    seed: int = 0,
    store: str | os.PathLike[str] | None = None,
    progress: ProgressOption = None,
    command: str | None = None,
) -> xr.Dataset:
    """Error of invariance to shifts by a pixel of a ConvNet, a transformer and an MLP, by training.

    The digits 0 to 3 lie at random places of a canvas of 12 × 12 pixels. The error of invariance of
    a network f is E‖f(Tx) − f(x)‖²/(2 E‖f(x) − E f‖²) over test images x, whose digits stay inside
    the canvas, and over the four shifts T by one pixel. It is 0 for an invariant function, and 1
    where f(Tx) is independent of f(x). It is computed for logits and for softmax outputs, before
    training and after training on different numbers of images.

    The source cites work on ImageNet in which trained transformers are as equivariant as
    convolutional networks, or more so. Here the networks and the images are small, nothing is
    pretrained, and the error is that of finite shifts in place of a Lie derivative. Test errors are
    not made equal; they are in the result.

    Args:
        sizes: numbers of training images, two or more, increasing; the others of 720 are for
            tests, at least 100.
        epochs: epochs of training on the largest number; smaller ones have as many steps, or more
            where a batch is not full.
        seeds: number of draws of images and initial weights.
        seed: first seed.
        store: folder for the results of single cells, so that an interrupted run continues.
        progress: called as progress(done, expected, what); True shows a progress bar.
        command: command to record in the result; None records this call.

    Returns:
        Dataset with logits_error, softmax_error and test_error (network, seed, n), where n = 0 is
        the untrained network.

    Raises:
        ValueError: a number is out of range; sizes do not increase.

    Source: Gruver et al. (2023); Wilson (2025), section 5.

    Example:
        >>> cell = trained("MLP", (50,), 2, 0)
        >>> cell["logits_error"].shape
        (2,)
    """
    counts, seed = checks.increasing("sizes", sizes, 10, count=2), checks.seed(seed)
    most = tasks.DISPLACED_COUNT - _TESTED
    if counts[-1] > most:
        raise ValueError(
            f"sizes must be at most {most}, which leaves {_TESTED} images for tests, "
            f"got {counts[-1]}"
        )
    epochs, seeds = checks.whole("epochs", epochs), checks.whole("seeds", seeds)
    numbers = range(seed, seed + checks.whole("seeds", seeds))
    jobs = [
        Job(name, trained, (name, tuple(counts), epochs, s)) for name in NETWORKS for s in numbers
    ]
    cells = sweep(jobs, [job.arguments for job in jobs], store=store, progress=progress)
    words = {
        "logits_error": "error of invariance, logits",
        "softmax_error": "error of invariance, softmax outputs",
        "test_error": "share of wrong test labels",
    }
    result = xr.Dataset(
        {
            key: (
                ("network", "seed", "n"),
                np.array([cell[key] for cell in cells]).reshape(len(NETWORKS), seeds, -1),
                {"units": "1", "long_name": long},
            )
            for key, long in words.items()
        },
        coords={"network": list(NETWORKS), "seed": list(numbers), "n": [0, *counts]},
        attrs={"title": "Invariance to shifts, before and after training", "epochs": epochs},
    )
    result.attrs |= _claim(result)
    said = f"equivariance(sizes={counts}, {epochs=}, {seeds=}, {seed=})"
    return result.assign_attrs(**provenance(command or said))


def network(name: str) -> nn.Module:
    """An untrained network of `NETWORKS` for four classes."""
    classes = len(tasks.DISPLACED)
    if name == "transformer":
        return ImageTransformer(tasks.CANVAS, classes)
    if name == "MLP":
        return networks.MLP(tasks.CANVAS**2, (128,), classes)
    return networks.ConvNet(8, classes, channels=1)


def trained(name: str, sizes: tuple[int, ...], epochs: int, seed: int) -> Values:
    """Errors of one architecture, untrained and trained on each number of images.

    Returns:
        logits_error, softmax_error, test_error: (1 + sizes,).
    """
    rows = []
    # All training sets are prefixes of one draw, and the test images are the same for all.
    data = tasks.displaced_digits(sizes[-1], 0.0, seed)
    for n in (0, *sizes):
        net = seeded(seed, lambda: network(name))
        if n:
            train(
                net, data.x[:n], data.y[:n], epochs=round(epochs * sizes[-1] / n), batch=50,
                optimiser="adam", learning_rate=3e-3, seed=seed,
            )  # fmt: skip
        net.eval()
        with torch.no_grad():
            wrong = float((net(data.x_new).argmax(-1) != data.y_new).double().mean())
            rows.append([*invariance_errors(net, data.x_new), wrong])
    table = np.array(rows).T
    return dict(zip(("logits_error", "softmax_error", "test_error"), table, strict=True))


def invariance_errors(net: nn.Module, x: Tensor) -> tuple[float, float]:
    """Error of invariance to shifts by a pixel, of logits and of softmax outputs.

    Args:
        net: network from images to logits.
        x: images, (n, 1, s, s); those with a digit at the border are left out for a shift beyond
            it. The background is the least value of an image.
    """
    gaps = []
    f = net(x)
    background = x.amin((1, 2, 3))
    for down, right in SHIFTS:
        moved = x.roll((down, right), (2, 3))
        edge = x[:, 0, -1 if down == 1 else 0] if down else x[:, 0, :, -1 if right == 1 else 0]
        inside = (edge == background[:, None]).all(1)
        gaps.append((f[inside], net(moved[inside])))
    old, new = (torch.cat(parts) for parts in zip(*gaps, strict=True))

    def error(a: Tensor, b: Tensor, whole: Tensor) -> float:
        spread = (whole - whole.mean(0)).square().sum(1).mean()
        return float((a - b).square().sum(1).mean() / (2 * spread))

    return error(old, new, f), error(old.softmax(1), new.softmax(1), f.softmax(1))


def _claim(result: xr.Dataset) -> dict[str, str]:
    """Attributes with the sources' claim and this result."""
    mean = result.mean("seed")
    error = mean.softmax_error
    last = error.isel(n=-1)
    parts = [
        f"{name}: {float(error.sel(network=name)[0]):.3f} untrained, "
        f"{float(error.sel(network=name)[1]):.3f} at n = {int(result.n[1])} and "
        f"{float(last.sel(network=name)):.3f} at n = {int(result.n[-1])}, where the test error is "
        f"{float(mean.test_error.sel(network=name)[-1]):.1%}"
        for name in result.network.values
    ]
    learnt = (last < FALL * error.isel(n=0)) & (last < FALL * error.isel(n=1))
    flexible = learnt.sel(network=["transformer", "MLP"])
    near = last.sel(network="transformer") < NEAR * last.sel(network="ConvNet")
    good = bool(flexible.all()) and bool(near)
    return claim(
        "Flexible models learn an approximate equivariance from data, and trained transformers can "
        "be as equivariant as convolutional networks.",
        "Errors of invariance of softmax outputs are: " + "; ".join(parts) + ".",
        "yes" if good else "partly" if bool(flexible.any()) else "no",
    )

"""Experiment: double descent of networks over their width, with measures of complexity."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from bayesgen import plots
from bayesgen._internal import checks
from bayesgen._internal.progress import ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.data.dataset import Dataset
from bayesgen.data.loading import names
from bayesgen.experiments.complexity_measures import MeasureSettings, measure_all
from bayesgen.experiments.corruption import corruptions, grid, loaded
from bayesgen.experiments.executor import Values
from bayesgen.experiments.experiment import claim, experiment, provenance
from bayesgen.experiments.width_families import FAMILIES, WidthTask, train_all

# Measures with a value for each α of the effective dimension: units and long names.
DIMENSIONS = {
    "ggn_dimension": ("1", "N_eff of the GGN of the mean loss"),
    "ggn_dimension_error": ("1", "standard error of N_eff of the GGN; 0 where it is exact"),
    "hessian_dimension": ("1", "N_eff of the positive eigenvalues of the Hessian"),
    "hessian_dimension_error": ("1", "standard error of N_eff of the Hessian"),
    "ritz_dimension": ("1", "sum over the positive Ritz values of one Lanczos run"),
}
MEASURES = {
    "top_eigenvalue": ("1", "largest eigenvalue of the GGN of the mean loss"),
    "trace": ("1", "trace of the GGN of the mean loss"),
    "hessian_top": ("1", "largest eigenvalue of the Hessian of the mean loss"),
    "log_marginal_likelihood": ("nats", "Laplace evidence"),
    "evidence_error": ("nats", "error of the Laplace evidence"),
    "prior_precision": ("1", "prior precision of largest evidence"),
    "kl": ("nats", "KL divergence of the PAC-Bayes certificate"),
    "deviation": ("1", "standard deviation of the weights in the certificate"),
    "gibbs_risk": ("1", "Gibbs risk of the certificate on the training data"),
    "bound": ("1", "PAC-Bayes bound of the 0–1 risk"),
    "compressed_bytes": ("bytes", "size of the compressed network"),
    "description_bytes": ("bytes", "size of the compressed network and its wrong labels"),
    "compressed_dimension": ("1", "dimension of the compressed network's subspace"),
    "compressed_risk": ("1", "training error of the compressed network"),
    "compressed_bound": ("1", "bound of the compressed network's 0–1 risk"),
}
ERRORS = {
    "train_loss": ("loss", "loss on the training labels, as corrupted"),
    "test_loss": ("loss", "loss on clean test labels"),
    "train_error": ("1", "share of training labels, as corrupted, not fitted"),
    "test_error": ("1", "error on clean test labels"),
}
# Factor between a peak of the test loss and the losses on both of its sides that counts as one.
_PEAK = 1.1
_FALL = 0.95
_PAPER = (
    "Over the width k the test loss falls to 1.62 (k = 7), rises to 2.31 (k = 19) and falls to "
    "1.43 (k = 65), while N_eff rises to 93.7 (k = 14) and falls to 84.5 (k = 64)."
)
# Smaller settings of the measures, for the quick settings of experiments.
QUICK = MeasureSettings(probes=4, steps=24, draws=64, dimensions=(50, 100), compression_steps=150)


@experiment(
    plot=plots.widths,
    quick={
        "data": "digits",
        "networks": ("mlp", "convnet"),
        "level": 0.2,
        "seeds": {"mlp": 4, "convnet": 1},
        "measured": 1,
        "measures": QUICK,
    },
)
@shows_progress
def widths(
    data: str | Dataset = "cifar10",
    networks: Sequence[str] = ("resnet18",),
    *,
    widths: Sequence[int] | None = None,
    level: float = 0.15,
    seeds: int | Sequence[int] | Mapping[str, int] = 1,
    measured: int | None = None,
    train: int | None = None,
    test: int | None = None,
    epochs: int | None = None,
    measures: MeasureSettings = MeasureSettings(),  # noqa: B008 (frozen)
    data_dir: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    store: str | os.PathLike[str] | None = None,
    progress: ProgressOption = None,
    command: str | None = None,
) -> xr.Dataset:
    """Double descent of the test loss over the width of networks, with their effective dimension.

    Figure 1 (f) of the source shows a PreAct ResNet-18 of width k = 1 … 65 on CIFAR-100: SGD with
    momentum 0.9, learning rate 0.01 throughout, weight decay 1e-4, batches of 128, 200 epochs, crop
    and flip. The defaults here are these settings on CIFAR-10 with 15 % of the training labels
    redrawn, because CIFAR-10 without label noise shows no peak. `data="cifar100"`, `level=0.0` is
    the source's problem. The quick settings take two families that train in seconds on digits with
    20 % of the labels redrawn: two-layer networks with the squared loss, whose test loss peaks
    where the number of parameters is about n·C, and small convolutional networks.

    The source's N_eff = Σ θᵢ/(θᵢ + α) runs over the Ritz values θᵢ of 100 Lanczos steps for the
    Hessian of the mean loss, at α = 1, in the weights with more than one dimension, with BatchNorm
    in training mode. It is at most 100 whatever the network. The Ritz values include the largest
    eigenvalues and only a sample of the bulk below them, so the sum neither counts the bulk nor
    estimates the sum over all eigenvalues. `ritz_dimension` is this quantity, of the positive Ritz
    values. `ggn_dimension` and `hessian_dimension` are the sums over all (positive) eigenvalues.
    They are exact for a small GGN, and otherwise found by Lanczos quadrature with a standard error.

    The other measures are the Laplace evidence at the trained weights, which are usually not a mode
    of the log posterior; a PAC-Bayes bound for Gaussian weights around the trained ones; and the
    compressed size of the architecture. See `bayesgen.experiments.complexity_measures`.

    Args:
        data: a name for `bayesgen.data.load`, or a `Dataset`; "convnet" and "resnet18" need square
            images.
        networks: "mlp", "convnet" or "resnet18", or several.
        widths: widths of the networks; None for those of each family.
        level: probability with which each training label is redrawn.
        seeds: number of seeds, or the seeds, of the labels, the initial weights and the order of
            the data; or a number for each network by its name.
        measured: number of seeds whose networks are measured, at most; None for all.
        train: number of training points; None for the number of each family, which is all for
            "resnet18".
        test: number of test points; None for all.
        epochs: number of passes over the training data; None for the number of each family.
        measures: settings of the measures.
        data_dir, device: for `bayesgen.data.load`, where data is a name.
        store: folder where the trained networks and the measures of each are written when they are
            done, so that an interrupted study can continue.
        progress: called as progress(done, expected, what); True shows a progress bar.
        command: command to record in the result; None records this call.

    Returns:
        Dataset of dims (network, width, seed), NaN where a network was not trained or measured:
        losses and errors, and the measures above; the effective dimensions have the dim `alpha`
        too. `parameters` is over (network, width).

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Source: Wilson (2025), figure 1 (f); Maddox et al. (2020) for N_eff; Nakkiran et al. (2020).

    Example:
        >>> small = MeasureSettings(
        ...     probes=2, steps=4, draws=4, dimensions=(20,), compression_steps=4)
        >>> result = widths("digits", ["mlp"], widths=[2, 4], train=40, epochs=20, measures=small)
        >>> result.sizes["width"], float(result.ritz_dimension.max()) < 100
        (2, True)
    """
    chosen = checks.names("networks", networks, tuple(FAMILIES))
    if measured is not None:
        checks.whole("measured", measured)
    for name in set(chosen) - set(seeds if isinstance(seeds, Mapping) else chosen):
        raise ValueError(f"seeds must have a number for each of {chosen}, got none for {name!r}")
    if not isinstance(measures, MeasureSettings):
        raise TypeError(f"measures must be MeasureSettings, got {type(measures).__name__}")
    numbers = {name: seeds[name] if isinstance(seeds, Mapping) else seeds for name in chosen}
    tasks = [
        task
        for name in chosen
        for task in tasks_of(
            name,
            points(data, name, train, test, data_dir, device),
            check_widths(widths) or FAMILIES[name].widths,
            level,
            numbers[name],
            epochs,
        )
    ]
    trained = train_all(tasks, store=store, progress=progress)
    pairs = list(zip(tasks, trained, strict=True))
    found = measure_all(pairs, measured, measures, store=store, progress=progress)
    result = _dataset(tasks, trained, found, measures.alphas)
    return result.assign_attrs(
        title="Double descent over width",
        data=tasks[0].data.name,
        data_fingerprint=tasks[0].data.fingerprint,
        level=level,
        steps=measures.ritz,
        device=str(tasks[0].data.x_train.device),
        **_claim(result),
        **provenance(command or f"bayesgen.experiments.widths({data!r}, {list(networks)})"),
    )


def check_widths(widths: Sequence[int] | None) -> tuple[int, ...] | None:
    """Check for increasing widths of at least 1.

    Raises:
        ValueError: a width is below 1; the widths do not increase; there is none.
    """
    return None if widths is None else tuple(checks.increasing("widths", widths))


def points(
    data: str | Dataset,
    name: str,
    train: int | None,
    test: int | None,
    data_dir: str | os.PathLike[str] | None,
    device: str | torch.device,
) -> Dataset:
    """The data of one family, with its number of training points where none is given."""
    if isinstance(data, str):
        checks.one_of("data", data, names())
    count = FAMILIES[name].points if train is None and isinstance(data, str) else train
    return loaded(
        data, train=count, test=test, data_dir=data_dir, device=device, dtype=torch.float32
    )


def tasks_of(
    name: str,
    data: Dataset,
    widths: Sequence[int],
    level: float,
    seeds: int | Sequence[int],
    epochs: int | None,
) -> list[WidthTask]:
    """The tasks of one family on one data set, one for each width."""
    (level,), numbers = grid([level], seeds, "uniform")
    labels = corruptions(data.y_train, [level], numbers, data.num_classes, "uniform")[0]
    passes = FAMILIES[name].epochs if epochs is None else checks.whole("epochs", epochs)
    return [WidthTask(name, w, data, level, labels, tuple(numbers), passes) for w in widths]


def _dataset(
    tasks: Sequence[WidthTask],
    trained: Sequence[Values],
    found: Sequence[Sequence[Values]],
    alphas: Sequence[float],
) -> xr.Dataset:
    """Values of all tasks over (network, width, seed), NaN where there is none."""
    nets = list(dict.fromkeys(task.name for task in tasks))
    wide = sorted({task.width for task in tasks})
    seeds = list(dict.fromkeys(seed for task in tasks for seed in task.seeds))
    shape = (len(nets), len(wide), len(seeds))
    values = {name: np.full(shape, np.nan) for name in (*ERRORS, *MEASURES)}
    values |= {name: np.full((*shape, len(alphas)), np.nan) for name in DIMENSIONS}
    parameters = np.full(shape[:2], np.nan)
    for task, cell, measures in zip(tasks, trained, found, strict=True):
        at = nets.index(task.name), wide.index(task.width)
        places = [seeds.index(seed) for seed in task.seeds]
        parameters[at] = cell["parameters"]
        for name in ERRORS:
            values[name][at][places] = cell[name]
        for s, row in zip(places, measures, strict=False):
            for name in (*MEASURES, *DIMENSIONS):
                values[name][(*at, s)] = row[name]
    dims = ("network", "width", "seed")
    words = ERRORS | MEASURES | DIMENSIONS
    variables: dict[str, Any] = {
        name: (
            (*dims, "alpha") if name in DIMENSIONS else dims,
            values[name],
            {"units": words[name][0], "long_name": words[name][1]},
        )
        for name in values
    }
    variables["parameters"] = (dims[:2], parameters, {"units": "1", "long_name": "weights"})
    variables["says"] = ("network", [FAMILIES[name].says for name in nets])
    coords = {"network": nets, "width": wide, "seed": seeds, "alpha": list(alphas)}
    return xr.Dataset(variables, coords=coords)


def peak(losses: Any, wide: Any) -> tuple[int, int, int]:
    """Places of an inner maximum with the lowest values on both of its sides.

    Of all inner points it is the one with the largest factor between its value and the larger of
    the two lowest values on its sides.

    Args:
        losses: values by width, (W,).
        wide: the widths, (W,).

    Returns:
        Widths (before, at, after); all three are the width of the maximum where W < 3.
    """
    v = np.asarray(losses, dtype=float)
    if len(v) < 3:
        return (int(wide[v.argmax()]),) * 3
    lows = [
        (int(v[:i].argmin()), i, i + 1 + int(v[i + 1 :].argmin())) for i in range(1, len(v) - 1)
    ]
    before, at, after = max(lows, key=lambda p: v[p[1]] / max(v[p[0]], v[p[2]]))
    return int(wide[before]), int(wide[at]), int(wide[after])


def _claim(result: xr.Dataset) -> dict[str, str]:
    """The source's claim against this result, network by network."""
    said, descents, falls = [], [], []
    alpha = min(result.alpha.values, key=lambda a: abs(np.log(a)))
    for name in result.network.values:
        one = result.drop_vars("says").sel(network=name).mean("seed")
        one = one.dropna("width", how="all", subset=["test_loss"])
        if one.sizes["width"] < 3:
            said.append(f"{name}: fewer than three widths show no peak")
            descents.append(False)
            falls.append(False)
            continue
        before, at, after = peak(one.test_loss.values, one.width.values)
        loss = [float(one.test_loss.sel(width=w)) for w in (before, at, after)]
        descents.append(loss[1] >= _PEAK * max(loss[0], loss[2]))
        sizes = one.sel(alpha=alpha).sel(width=[before, at, after])
        own, ritz = sizes.ggn_dimension.values, sizes.ritz_dimension.values
        falls.append(own[2] <= _FALL * own[1])
        said.append(
            f"{name}: test loss {loss[0]:.2f}, {loss[1]:.2f}, {loss[2]:.2f} at widths {before}, "
            f"{at}, {after}, N_eff (α = {alpha:g}) of the GGN {own[0]:.0f}, {own[1]:.0f}, "
            f"{own[2]:.0f} and from Ritz values {ritz[0]:.0f}, {ritz[1]:.0f}, {ritz[2]:.0f}"
        )
    holds = "no"
    if any(descents):
        both = all(d and f for d, f in zip(descents, falls, strict=True))
        holds = "yes" if both else "partly"
    return claim(_PAPER, "; ".join(said) + ".", holds)

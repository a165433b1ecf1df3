"""Experiment: double descent over the width of networks, beside bounds of the risk."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from bayesgen import plots
from bayesgen._internal import checks
from bayesgen._internal.progress import Progress, ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.data.dataset import Dataset
from bayesgen.experiments.complexity_measures import MeasureSettings, certificate
from bayesgen.experiments.compressed_sizes import (
    NETWORKS,
    CodeGrid,
    Selected,
    SizeTask,
    on_noisy_labels,
    select_all,
)
from bayesgen.experiments.corruption import grid
from bayesgen.experiments.executor import Job, Values, sweep
from bayesgen.experiments.experiment import claim, experiment, provenance
from bayesgen.experiments.width_families import WidthTask, restored, train_all
from bayesgen.experiments.widths import check_widths, peak, points, tasks_of

WIDTHS: dict[str, tuple[int, ...]] = {
    "mlp": (4, 8, 16, 32, 48, 64, 128, 256, 512),
    "convnet": (2, 4, 8, 16, 32, 64),
}
# Factor between a peak of the test error and the errors on both of its sides that counts as one.
_PEAK = 1.1
# Difference of bounds that counts as one.
_MARGIN = 0.01
_VALUES = {
    "train_error": ("1", "share of noisy training labels not fitted, trained network"),
    "test_error": ("1", "error on clean test labels, trained network"),
    "noisy_test_error": ("1", "expected error on noisy test labels, trained network"),
    "gibbs_bound": ("1", "PAC-Bayes bound of Gaussian weights around the trained ones"),
    "gibbs_risk": ("1", "training error of Gaussian weights around the trained ones"),
    "kl": ("nats", "KL divergence of Gaussian weights around the trained ones"),
    "bound": ("1", "bound of the compressed network's risk on noisy labels"),
    "risk": ("1", "training error of the compressed network on noisy labels"),
    "bits": ("bits", "length of the code"),
    "dimension": ("1", "dimension of the subspace that was chosen"),
    "compressed_test_error": ("1", "error on clean test labels, compressed network"),
    "compressed_noisy_test_error": ("1", "expected error on noisy labels, compressed network"),
}
_PAPER = (
    "Bounds by compression describe double descent: over the width they descend a second time "
    "where the test error does (Wilson, 2025, figure 2; Lotfi et al., 2022, figure 7)."
)


@experiment(
    plot=plots.certified_descent,
    quick={
        "data": "digits",
        "widths": {"mlp": (8, 14, 20, 160), "convnet": (2, 4, 8)},
        "levels": (0.0, 0.2),
        "seeds": {"mlp": 4, "convnet": 1},
        "train": 250,
        "epochs": {"mlp": 3000, "convnet": 60},
        "codes": CodeGrid(
            dimensions=(50, 100), levels=(5,), epochs=30, quantised_epochs=15, batch=100
        ),
        "draws": 32,
    },
)
@shows_progress
def certified_descent(
    data: str | Dataset = "fashion-mnist",
    networks: Sequence[str] = NETWORKS,
    *,
    widths: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    levels: Sequence[float] = (0.0, 0.1, 0.2),
    seeds: int | Mapping[str, int] = 3,
    train: int | None = 4000,
    test: int | None = None,
    epochs: int | Mapping[str, int] | None = None,
    codes: CodeGrid = CodeGrid(),  # noqa: B008 (frozen)
    draws: int = 128,
    data_dir: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    store: str | os.PathLike[str] | None = None,
    progress: ProgressOption = None,
    command: str | None = None,
) -> xr.Dataset:
    """Double descent of the test error over width and label noise, and whether bounds follow it.

    The networks are those of the experiment `widths`, trained on labels that are redrawn with a
    probability. Two bounds are computed on the same noisy labels, for the risk with respect to
    labels with the same noise. They are compared with the expected error on such labels,
    (1 − p) e + p (1 − 1/C) for an error e on clean ones.

    `bound` is that of the architecture, compressed by `bayesgen.pacbayes.compress` and selected
    among a grid of settings. The compressed network is trained anew in a subspace that cannot fit
    the noise. It is not the network whose test error shows the peak, and nothing in its training
    would make it peak there. `compressed_test_error` is its own test error.

    `gibbs_bound` is that of the trained network itself, with Gaussian noise on its weights and the
    initial weights as the prior's mean; see `complexity_measures.certificate`. A network that was
    trained to fit is so far from its initial weights that this bound is vacuous at the sizes here;
    its `kl` still shows whether the complexity follows the width. The inputs of "convnet" are
    standardised by statistics of the training data, for which 64 bits for each channel are paid.

    Each bound pays for its settings, and `bound` for the choice among the widths and families too.

    Args:
        data: a name for `bayesgen.data.load`, or a `Dataset`; "convnet" needs square images.
        networks: "mlp", "convnet", or both.
        widths: widths of the networks, or those of each by its name; None for `WIDTHS`.
        levels: probabilities with which each training label is redrawn, increasing.
        seeds: number of seeds of labels and initial weights, or that of each network by its name.
        train, test: numbers of training and test points; None for the family's, and for all.
        epochs: number of passes over the training data, or that of each network by its name; None
            for the family's.
        codes: the grid of settings, and the training of the compressed networks.
        draws: number of draws of the weights for the trained network's Gibbs risk.
        data_dir, device: for `bayesgen.data.load`, where data is a name.
        store: folder for the results of cells, so that an interrupted study can continue.
        progress: called as progress(done, expected, what); True shows a progress bar.
        command: command to record in the result; None records this call.

    Returns:
        Dataset over (network, level, width, seed), NaN where there is no network: train_error,
        test_error and noisy_test_error of the trained networks with their gibbs_bound, gibbs_risk
        and kl (nats); bound, risk, bits, dimension, compressed_test_error and
        compressed_noisy_test_error of the compressed ones. `parameters` is over (network, width).

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Source: Lotfi et al. (2022), figure 7; Nakkiran et al. (2020) for double descent.

    Example:
        >>> few = CodeGrid(dimensions=(20,), epochs=2, quantised_epochs=1)
        >>> result = certified_descent("digits", ["mlp"], widths=[2, 4, 8], levels=[0.2], seeds=1,
        ...                            train=60, epochs=20, codes=few, draws=4)
        >>> bool((result.bound >= result.risk).all()), result.attrs["holds"] in ("yes", "no")
        (True, True)
    """
    chosen = checks.names("networks", networks, NETWORKS)
    if not isinstance(codes, CodeGrid):
        raise TypeError(f"codes must be CodeGrid, got {type(codes).__name__}")
    how = MeasureSettings(draws=checks.whole("draws", draws))
    noise, _ = grid(levels, 1, "uniform")
    own = {
        name: tuple(_own(what, given, name) for what, given in
                    (("widths", widths), ("seeds", seeds), ("epochs", epochs)))
        for name in chosen
    }  # fmt: skip
    tasks = [
        task
        for name in chosen
        for shared in [points(data, name, train, test, data_dir, device)]
        for level in noise
        for task in tasks_of(
            name,
            shared,
            check_widths(own[name][0]) or WIDTHS[name],
            level,
            own[name][1],
            own[name][2],
        )
    ]
    trained = train_all(tasks, store=store, progress=progress)
    gibbs = _around(tasks, trained, how, store=store, progress=progress)
    sizes = [
        SizeTask(task.name, task.width, task.data, labels, f"level {task.level:g}, labels {seed}")
        for task in tasks
        for seed, labels in zip(task.seeds, task.labels, strict=True)
    ]
    choices = len({(task.name, task.width) for task in tasks})
    selected = select_all(sizes, codes, choices, store=store, progress=progress)
    result = _dataset(tasks, trained, gibbs, selected, noise)
    shared = tasks[0].data
    return result.assign_attrs(
        title="Double descent over width, and bounds of the risk",
        data=shared.name,
        data_fingerprint=shared.fingerprint,
        n=len(shared.y_train),
        classes=shared.num_classes,
        candidates=selected[0].best.candidates,
        device=str(shared.x_train.device),
        **_claim(result),
        **provenance(
            command or f"bayesgen.experiments.certified_descent({data!r}, {list(networks)})"
        ),
    )


def _own(what: str, given: Any, name: str) -> Any:
    """The setting of one network, where a setting may be given by network."""
    if not isinstance(given, Mapping):
        return given
    if name not in given:
        raise ValueError(f"{what} must have a value for {name!r}, got those of {sorted(given)}")
    return given[name]


def _around(
    tasks: Sequence[WidthTask],
    trained: Sequence[Values],
    how: MeasureSettings,
    *,
    store: Any,
    progress: Progress | None,
) -> list[Values]:
    """Bounds of Gaussian weights around each trained network, one cell for each task and seed."""
    jobs, marks = [], []
    for task, cell in zip(tasks, trained, strict=True):
        for seed, state in zip(task.seeds, np.asarray(cell["state"]), strict=True):
            title = f"Gaussian bound, {task.title()}, seed {seed}"
            weights = torch.as_tensor(state)
            jobs.append(Job(title, around, (task, weights, seed, how)))
            marks.append([*task.mark(), weights, seed, how])
    return sweep(jobs, marks, store=store, progress=progress)


def around(task: WidthTask, state: torch.Tensor, seed: int, how: MeasureSettings) -> Values:
    """The bound of Gaussian weights around one trained network; see `certified_descent`."""
    x = task.family.inputs(task.data)[0]
    start = task.family.network(task.width, task.data, seed)
    # Mean and standard deviation of each channel of images are float32 numbers.
    statistics = 64 * x.shape[1] if x.ndim == 4 else 0
    labels = task.labels[task.seeds.index(seed)]
    net = restored(task, state, seed)
    return certificate(net, start, x, labels, how, paid=statistics * math.log(2))


def _dataset(
    tasks: Sequence[WidthTask],
    trained: Sequence[Values],
    gibbs: Sequence[Values],
    selected: Sequence[Selected],
    levels: Sequence[float],
) -> xr.Dataset:
    """Values of all tasks over (network, level, width, seed), NaN where there is none."""
    nets = list(dict.fromkeys(task.name for task in tasks))
    wide = sorted({task.width for task in tasks})
    seeds = list(dict.fromkeys(seed for task in tasks for seed in task.seeds))
    shape = (len(nets), len(levels), len(wide), len(seeds))
    values = {name: np.full(shape, np.nan) for name in _VALUES}
    parameters = np.full((shape[0], shape[2]), np.nan)
    rest = zip(gibbs, selected, strict=True)
    for task, cell in zip(tasks, trained, strict=True):
        C = task.data.num_classes
        net, width = nets.index(task.name), wide.index(task.width)
        parameters[net, width] = cell["parameters"]
        for i, seed in enumerate(task.seeds):
            at = net, levels.index(task.level), width, seeds.index(seed)
            row, one = next(rest)
            error = float(np.asarray(cell["test_error"])[i])
            found = {
                "train_error": np.asarray(cell["train_error"])[i],
                "test_error": error,
                "noisy_test_error": on_noisy_labels(error, task.level, C),
                "gibbs_bound": row["bound"],
                "gibbs_risk": row["gibbs_risk"],
                "kl": row["kl"],
                "bound": one.best.certificate().bound,
                "risk": one.best.risk,
                "bits": one.best.bits,
                "dimension": one.best.settings["dimension"],
                "compressed_test_error": one.test_error,
                "compressed_noisy_test_error": on_noisy_labels(one.test_error, task.level, C),
            }
            for name, value in found.items():
                values[name][at] = value
    dims = ("network", "level", "width", "seed")
    variables: dict[str, Any] = {
        name: (dims, values[name], {"units": units, "long_name": words})
        for name, (units, words) in _VALUES.items()
    }
    about = {"units": "1", "long_name": "weights"}
    variables["parameters"] = (("network", "width"), parameters, about)
    coords = {"network": nets, "level": list(levels), "width": wide, "seed": seeds}
    return xr.Dataset(variables, coords=coords)


def _claim(result: xr.Dataset) -> dict[str, str]:
    """Whether the bounds have a peak where the test error has one, by network and level."""
    said, followed = [], []
    for name in result.network.values:
        for level in result.level.values:
            one = result.sel(network=name, level=level).mean("seed")
            one = one.dropna("width", how="all", subset=["test_error"])
            where = f"{name} with {level:.0%} of the labels redrawn"
            if one.sizes["width"] < 3:
                said.append(f"{where}: fewer than three widths show no peak")
                continue
            at = list(peak(one.test_error.values, one.width.values))
            error, bound, gibbs, kl = (
                one[v].sel(width=at).values for v in ("test_error", "bound", "gibbs_bound", "kl")
            )
            has = error[1] >= _PEAK * max(error[0], error[2])
            if has:
                followed.append(bool(bound[1] >= max(bound[0], bound[2]) + _MARGIN))
            least = int(one.width[int(one.bound.values.argmin())])
            said.append(
                f"{where}: the test error on clean labels is {_row(error)} at widths {at[0]}, "
                f"{at[1]}, {at[2]}, which is {'a' if has else 'no'} peak; the bound of the "
                f"compressed architecture is {_row(bound)} there, least at width "
                f"{least}, and that of Gaussian weights around the trained network is "
                f"{_row(gibbs)}, with a KL of {', '.join(f'{value:,.0f}' for value in kl)} nats"
            )
    holds = "no"
    if followed and any(followed):
        holds = "yes" if all(followed) else "partly"
    count = f"{sum(followed)} of {len(followed)} peaks of the test error"
    end = f". The bound of the compressed network, which is trained anew, follows {count}."
    return claim(_PAPER, "; ".join(said) + end, holds)


def _row(values: Any) -> str:
    return ", ".join(f"{value:.3f}" for value in values)

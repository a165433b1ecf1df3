"""Experiment: bounds of compressed classifiers against the size of the network."""

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
from bayesgen.experiments.compressed_sizes import (
    NETWORKS,
    CodeGrid,
    Selected,
    SizeTask,
    select_all,
)
from bayesgen.experiments.corruption import loaded
from bayesgen.experiments.experiment import claim, experiment, provenance
from bayesgen.experiments.widths import check_widths
from bayesgen.pacbayes import validation

WIDTHS: dict[str, tuple[int, ...]] = {
    "mlp": (4, 16, 64, 256, 1024),
    "convnet": (2, 4, 8, 16, 32),
}
# Difference of bounds of the 0–1 risk that counts as one.
MARGIN = 0.01
_VALUES = {
    "bound": ("1", "bound of the 0–1 risk"),
    "risk": ("1", "training error of the compressed network"),
    "bits": ("bits", "length of the code"),
    "payment": ("nats", "payment for all that was chosen on the data"),
    "test_error": ("1", "error on test labels, for comparison"),
    "dimension": ("1", "dimension of the subspace that was chosen"),
    "levels": ("1", "number of levels that was chosen"),
    "code_seed": ("1", "seed of the subspace that was chosen"),
}
_TRIED = ("bound", "risk", "bits", "test_error")
_PAPER = (
    "Large models fit the data well and can be compressed to small files, so that the bound, "
    "empirical risk plus compressibility, is lower for larger models (Wilson, 2025, figure 2). The "
    "bounds of Lotfi et al. (2022) on CIFAR-10 are 62.1, 57.1, 56.0, 56.5, 57.5, 62.2 and 63.4 % "
    "at base widths 2, 4, 8, 16, 32, 64 and 96: they fall, and rise again."
)


@experiment(
    plot=plots.model_size,
    quick={
        "data": "digits",
        "widths": {"mlp": (4, 16, 64, 256), "convnet": (2, 4, 8, 16)},
        "codes": CodeGrid(dimensions=(100, 200, 400), epochs=16, quantised_epochs=8, batch=64),
    },
)
@shows_progress
def model_size(
    data: str | Dataset = "fashion-mnist",
    networks: Sequence[str] = NETWORKS,
    *,
    widths: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    codes: CodeGrid = CodeGrid(),  # noqa: B008 (frozen)
    train: int | None = None,
    test: int | None = None,
    delta: float = 0.05,
    data_dir: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    store: str | os.PathLike[str] | None = None,
    progress: ProgressOption = None,
    command: str | None = None,
) -> xr.Dataset:
    """Bound of compressed classifiers over model size: empirical risk plus compressibility.

    Figure 2 of the source sketches the bound as the sum of the empirical risk and a term for the
    compressibility, and says that larger models have a smaller sum. Here both are measured. Each
    architecture is compressed by `bayesgen.pacbayes.compress` with every dimension, number of
    levels and seed of a stated grid, and the code of least bound is selected. All bounds pay for
    the grid, the widths and the families, so that with probability 1 − δ all of them hold at once,
    and so does the least of them. The inputs are pixels without statistics of the training data.

    The source has no numbers for this figure. The defaults take two-layer ReLU networks and
    networks of three convolutions on Fashion-MNIST, and not a ResNet, whose BatchNorm would need
    statistics of the data that are not in the code.

    Args:
        data: a name for `bayesgen.data.load`, or a `Dataset`; "convnet" needs square images.
        networks: "mlp", "convnet", or both.
        widths: widths of the networks, or those of each by its name; None for `WIDTHS`.
        codes: the grid of settings, and the training of the compressed networks.
        train, test: numbers of training and test points; None for all.
        delta: δ in (0, 1).
        data_dir, device: for `bayesgen.data.load`, where data is a name.
        store: folder for the code of each network and setting, so that an interrupted study can
            continue.
        progress: called as progress(done, expected, what); True shows a progress bar.
        command: command to record in the result; None records this call.

    Returns:
        Dataset over (network, width), NaN where a network was not compressed: bound, risk, bits,
        payment (nats), test_error, dimension, levels, code_seed and parameters. The variables
        tried_bound, tried_risk, tried_bits and tried_test_error are over (network, width, setting)
        and hold what was selected from; `setting` has the coordinates k, L and seed.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Source: Wilson (2025), figure 2; Lotfi et al. (2022) for the bound and the search.

    Example:
        >>> few = CodeGrid(dimensions=(20, 40), epochs=2, quantised_epochs=1, batch=64)
        >>> result = model_size("digits", ["mlp"], widths=[2, 8], codes=few, train=200)
        >>> bool((result.bound >= result.risk).all()), result.attrs["candidates"]
        (True, 4)
    """
    chosen = checks.names("networks", networks, NETWORKS)
    if not isinstance(codes, CodeGrid):
        raise TypeError(f"codes must be CodeGrid, got {type(codes).__name__}")
    validation.log_delta(delta)
    given = widths if isinstance(widths, Mapping) else dict.fromkeys(chosen, widths)
    if set(chosen) - set(given):
        raise ValueError(f"widths must have those of each of {chosen}, got {sorted(given)}")
    wide = {name: check_widths(given[name]) or WIDTHS[name] for name in chosen}
    if isinstance(data, str):
        checks.one_of("data", data, names())
    points = loaded(
        data, train=train, test=test, data_dir=data_dir, device=device, dtype=torch.float32
    )
    tasks = [SizeTask(name, w, points, points.y_train) for name in chosen for w in wide[name]]
    found = select_all(tasks, codes, len(tasks), delta=delta, store=store, progress=progress)
    result = _dataset(tasks, found, codes, delta)
    return result.assign_attrs(
        title="Bounds of compressed classifiers over model size",
        data=points.name,
        data_fingerprint=points.fingerprint,
        n=len(points.y_train),
        classes=points.num_classes,
        delta=delta,
        candidates=found[0].best.candidates,
        device=str(points.x_train.device),
        **_claim(result),
        **provenance(command or f"bayesgen.experiments.model_size({data!r}, {list(networks)})"),
    )


def _dataset(
    tasks: Sequence[SizeTask], found: Sequence[Selected], codes: CodeGrid, delta: float
) -> xr.Dataset:
    """Values of all tasks over (network, width), NaN where there is none."""
    nets = list(dict.fromkeys(task.name for task in tasks))
    wide = sorted({task.width for task in tasks})
    shape, grid = (len(nets), len(wide)), codes.grid
    values = {name: np.full(shape, np.nan) for name in (*_VALUES, "parameters")}
    tried = {name: np.full((*shape, len(grid)), np.nan) for name in _TRIED}
    for task, one in zip(tasks, found, strict=True):
        at = nets.index(task.name), wide.index(task.width)
        made, settings = one.best.certificate(delta), one.best.settings
        row = {
            "bound": made.bound,
            "risk": made.risk,
            "bits": one.best.bits,
            "payment": sum(payment.nats for payment in made.payments),
            "test_error": one.test_error,
            "dimension": settings["dimension"],
            "levels": settings["levels"],
            "code_seed": settings["seed"],
            "parameters": one.parameters,
        }
        for name, value in row.items():
            values[name][at] = value
        for setting, code, error in zip(one.tried, one.codes, one.test_errors, strict=True):
            bound = code.certificate(delta, candidates=one.best.candidates).bound
            for name, value in zip(_TRIED, (bound, code.risk, code.bits, error), strict=True):
                tried[name][(*at, grid.index(setting))] = value
    dims = ("network", "width")
    variables: dict[str, Any] = {
        name: (dims, values[name], {"units": units, "long_name": words})
        for name, (units, words) in _VALUES.items()
    }
    variables["parameters"] = (dims, values["parameters"], {"units": "1", "long_name": "weights"})
    for name in _TRIED:
        units, words = _VALUES[name]
        about = {"units": units, "long_name": f"{words}, each setting"}
        variables[f"tried_{name}"] = ((*dims, "setting"), tried[name], about)
    columns = dict(zip(("k", "L", "seed"), zip(*grid, strict=True), strict=True))
    coords: dict[str, Any] = {"network": nets, "width": wide}
    coords |= {name: ("setting", list(column)) for name, column in columns.items()}
    return xr.Dataset(variables, coords=coords)


def trend(bounds: Sequence[float], margin: float = MARGIN) -> str:
    """Word for the course of bounds over the size of the model.

    A difference up to the margin counts as none. "flat": no two differ. "falling" and "rising": the
    last is the lower or higher one, and none is higher or lower than the least or largest before
    it. "U-shaped": the first and the last are above the least. "irregular": none of these.

    Args:
        bounds: bounds in the order of size, one or more.
        margin: difference that counts as one.
    """
    v = np.asarray(bounds, dtype=float)
    least, most = np.minimum.accumulate(v), np.maximum.accumulate(v)
    if np.ptp(v) <= margin:
        return "flat"
    if (v <= least + margin).all() and v[-1] < v[0] - margin:
        return "falling"
    if (v >= most - margin).all() and v[-1] > v[0] + margin:
        return "rising"
    if v[0] > v.min() + margin and v[-1] > v.min() + margin:
        return "U-shaped"
    return "irregular"


def _claim(result: xr.Dataset) -> dict[str, str]:
    """The source's claim against this result, network by network."""
    said, words, lower = [], [], []
    for name in result.network.values:
        one = result.sel(network=name).dropna("width", how="all", subset=["bound"])
        bounds, sizes = one.bound.values, one.width.values
        words.append(trend(bounds))
        lower.append(len(bounds) > 1 and bounds[-1] < bounds[0] - MARGIN)
        row = ", ".join(
            f"{b:.3f} ({r:.3f} + {b - r:.3f})" for b, r in zip(bounds, one.risk.values, strict=True)
        )
        best = int(bounds.argmin())
        said.append(
            f"{name}: the bound (risk + compressibility) is {row} at widths "
            f"{', '.join(str(w) for w in sizes)}, which is {words[-1]} within {MARGIN:g}; it is "
            f"least at width {sizes[best]}, with {one.bits.values[best]:,.0f} bits in dimension "
            f"{one.dimension.values[best]:.0f} and a test error of "
            f"{one.test_error.values[best]:.3f}"
        )
    holds = "no"
    if any(lower):
        holds = "yes" if all(word == "falling" for word in words) else "partly"
    paid = float(result.payment.max())
    found = "; ".join(said) + f". Each bound pays {paid:.1f} nats for all choices."
    return claim(_PAPER, found, holds)

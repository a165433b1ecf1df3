"""Experiment: measures of flatness and complexity against the generalisation gap."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats
import torch
import xarray as xr
from torch import nn

from bayesgen import plots
from bayesgen._internal import checks
from bayesgen._internal.progress import Progress, ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.data.dataset import Dataset
from bayesgen.experiments import complexity_measures
from bayesgen.experiments.complexity_measures import MeasureSettings, measure_all
from bayesgen.experiments.corruption import grid
from bayesgen.experiments.executor import Job, Values, sweep
from bayesgen.experiments.experiment import claim, experiment, provenance
from bayesgen.experiments.width_families import FAMILIES, WidthTask, outputs, restored, train_all
from bayesgen.experiments.widths import QUICK, check_widths, points, tasks_of

# Measures of a network, each so that the source expects a larger gap for a larger value: their
# units and long names.
MEASURES = {
    "N_eff": ("1", "N_eff of the GGN, α = 1"),
    "top eigenvalue": ("1", "largest eigenvalue of the GGN"),
    "trace": ("1", "trace of the GGN"),
    "−log evidence": ("nats", "negative Laplace evidence"),
    "KL": ("nats", "KL divergence of the certificate"),
    "compressed size": ("bytes", "compressed network and its wrong labels"),
}
# Differences below this fraction of the value count as none, in a network of float32 weights.
_SAME = 1e-3
_PAPER = (
    "Flat solutions generalise better because they are simpler and compress better, but a measure "
    "of flatness that a reparametrisation changes cannot alone explain generalisation (Dinh et "
    "al., 2017)."
)


@experiment(
    plot=plots.flatness,
    quick={
        "data": "digits",
        "network": "mlp",
        "widths": (8, 24, 64),
        "levels": (0.0, 0.2, 0.4),
        "seeds": 4,
        "measured": 2,
        "measures": QUICK,
    },
)
@shows_progress
def flatness(
    data: str | Dataset = "cifar10",
    network: str = "convnet",
    *,
    widths: Sequence[int] | None = None,
    levels: Sequence[float] = (0.0, 0.2, 0.4),
    seeds: int | Sequence[int] = 3,
    measured: int | None = None,
    train: int | None = None,
    test: int | None = None,
    epochs: int | None = None,
    factor: float = 5.0,
    resamples: int = 1000,
    measures: MeasureSettings = MeasureSettings(),  # noqa: B008 (frozen)
    data_dir: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    store: str | os.PathLike[str] | None = None,
    progress: ProgressOption = None,
    command: str | None = None,
) -> xr.Dataset:
    """Rank correlation of flatness and complexity measures with the generalisation gap.

    The networks differ in width, label corruption and seed. The gap is the error on new labels,
    corrupted as the training labels are, minus the training error. The expected error on corrupted
    test labels follows from that on the clean ones: (1 − p) e + p (1 − 1/C) for labels redrawn with
    probability p. Cells are shared with the experiment `widths` where the store is the same.

    The correlation is Kendall's τ over all cells and over those of each level. The former mostly
    says whether a measure sees the label noise; the latter whether it ranks networks on the same
    labels. Intervals are percentiles over resampled cells.

    One network is also reparametrised: its first layer is multiplied by a and the next one divided
    by a, which leaves the function of a ReLU network as it is. None of N_eff, top eigenvalue and
    trace is invariant. The Laplace evidence and the KL are not invariant either, because their
    Gaussian priors are isotropic in the weights (and the KL has isotropic noise). The compressed
    size is the same by construction: `bayesgen.pacbayes.compress` trains the architecture anew and
    does not use the trained weights.

    Args:
        data: a name for `bayesgen.data.load`, or a `Dataset`.
        network: "mlp" or "convnet", whose first two layers have a ReLU between them.
        widths: widths of the networks; None for those of the family.
        levels: probabilities with which each training label is redrawn, increasing.
        seeds: number of seeds, or the seeds, of the labels and the networks.
        measured: number of seeds whose networks are measured, at most; None for all.
        train: number of training points; None for the family's.
        test: number of test points; None for all.
        epochs: number of passes over the training data; None for the family's.
        factor: a > 0 of the reparametrisation.
        resamples: number of resamples for the intervals.
        measures: settings of the measures.
        data_dir, device: for `bayesgen.data.load`, where data is a name.
        store: folder for the results of cells, so that an interrupted study can continue.
        progress: called as progress(done, expected, what); True shows a progress bar.
        command: command to record in the result; None records this call.

    Returns:
        Dataset with `gap`, `train_error`, `test_error` and `value` (measure, …) over (width, level,
        seed), seeds that were measured; `tau`, `tau_low` and `tau_high` (measure, scope), 90 %
        intervals; `reparametrised` (measure, state) with states "before" and "after"; `invariant`
        (measure); and `output_difference`, the largest difference of outputs before and after
        relative to the largest output.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Source: Wilson (2025), sections 3 and 4; Dinh et al. (2017), section 5; Jiang et al. (2020) for
        the rank correlation.

    Example:
        >>> small = MeasureSettings(
        ...     probes=2, steps=4, draws=4, dimensions=(20,), compression_steps=4)
        >>> result = flatness("digits", "mlp", widths=[2, 4], levels=[0.0, 0.4], seeds=1, train=40,
        ...                   epochs=20, resamples=10, measures=small)
        >>> dict(result.tau.sizes)
        {'measure': 6, 'scope': 3}
    """
    checks.one_of("network", network, ("mlp", "convnet"))
    chosen, _ = grid(levels, seeds, "uniform")
    a = checks.positive_number("factor", factor)
    draws = checks.whole("resamples", resamples)
    if measured is not None:
        checks.whole("measured", measured)
    wide = check_widths(widths) or FAMILIES[network].widths
    shared = points(data, network, train, test, data_dir, device)
    tasks = [t for level in chosen for t in tasks_of(network, shared, wide, level, seeds, epochs)]
    trained = train_all(tasks, store=store, progress=progress)
    pairs = list(zip(tasks, trained, strict=True))
    found = measure_all(pairs, measured, measures, store=store, progress=progress)
    numbers = tasks[0].seeds[:measured]
    shape = (len(chosen), len(wide), len(numbers))
    values = {
        name: np.array([[_value(name, row, measures) for row in rows] for rows in found])
        for name in MEASURES
    }
    errors = {
        name: np.array([np.asarray(cell[name])[: len(numbers)] for cell in trained])
        for name in ("train_error", "test_error")
    }
    C, level = shared.num_classes, np.repeat(chosen, len(wide))[:, None]
    noisy = (1 - level) * errors["test_error"] + level * (1 - 1 / C)
    gap = noisy - errors["train_error"]
    tau = _correlations(values, gap, level + 0 * gap, chosen, draws)
    middle = len(pairs) // 2
    before = found[middle][0]
    after = _reparametrised(*pairs[middle], a, measures, store=store, progress=progress)
    moved = np.array([[_value(n, v, measures) for v in (before, after)] for n in MEASURES])
    dims = ("level", "width", "seed")
    scopes = ["all", *(f"level {level:g}" for level in chosen)]
    names = list(MEASURES)
    stacked = np.stack([values[name].reshape(shape) for name in names])
    same = np.abs(moved[:, 1] - moved[:, 0]) <= _SAME * np.abs(moved[:, 0])
    result = xr.Dataset(
        {
            "gap": (dims, gap.reshape(shape), _words("1", "error on new corrupted labels − train")),
            **{name: (dims, errors[name].reshape(shape), _words("1", name)) for name in errors},
            "value": (("measure", *dims), stacked, _words("1", "measure, in its own units")),
            "tau": (("measure", "scope"), tau[0], _words("1", "Kendall's τ with the gap")),
            "tau_low": (("measure", "scope"), tau[1], _words("1", "5 % quantile of τ")),
            "tau_high": (("measure", "scope"), tau[2], _words("1", "95 % quantile of τ")),
            "reparametrised": (("measure", "state"), moved, _words("1", "measure")),
            "invariant": ("measure", same),
            "unit": ("measure", [units for units, _ in MEASURES.values()]),
            "output_difference": ((), float(after["output_difference"]), _words("1", "relative")),
        },
        coords={
            "level": chosen,
            "width": list(wide),
            "seed": list(numbers),
            "measure": names,
            "scope": scopes,
            "state": ["before", "after"],
        },
    )
    return result.assign_attrs(
        title="Flatness and complexity against the generalisation gap",
        data=shared.name,
        data_fingerprint=shared.fingerprint,
        network=network,
        says=FAMILIES[network].says,
        n=len(shared.y_train),
        factor=a,
        reparametrised_cell=pairs[middle][0].title(),
        device=str(shared.x_train.device),
        **_claim(result),
        **provenance(command or f"bayesgen.experiments.flatness({data!r}, {network!r})"),
    )


def _words(units: str, long_name: str) -> dict[str, str]:
    return {"units": units, "long_name": long_name}


def _value(name: str, row: Values, how: MeasureSettings) -> float:
    """One measure, from the values of `complexity_measures.measured`."""
    if name == "N_eff":
        nearest = int(np.argmin(np.abs(np.log(how.alphas))))
        return float(np.asarray(row["ggn_dimension"])[nearest])
    if name == "−log evidence":
        return -float(row["log_marginal_likelihood"])
    keys = {
        "top eigenvalue": "top_eigenvalue",
        "trace": "trace",
        "KL": "kl",
        "compressed size": "description_bytes",
    }
    return float(row[keys[name]])


def _correlations(
    values: dict[str, Any], gap: Any, level: Any, levels: Sequence[float], resamples: int
) -> np.ndarray:
    """Kendall's τ with 5 % and 95 % quantiles, (3, measures, scopes)."""
    gaps, own = gap.reshape(-1), level.reshape(-1)
    scopes = [np.arange(len(gaps)), *(np.flatnonzero(own == one) for one in levels)]
    found = [
        [kendall(value.reshape(-1)[some], gaps[some], resamples) for some in scopes]
        for value in values.values()
    ]
    return np.moveaxis(np.array(found), -1, 0)


def kendall(a: Any, b: Any, resamples: int, seed: int = 0) -> tuple[float, float, float]:
    """Kendall's τ of two vectors, with 5 % and 95 % quantiles over resampled pairs.

    Resamples in which a vector is constant have no τ and are left out. NaN where there is none.
    """
    a, b = np.asarray(a), np.asarray(b)
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(resamples):
        some = rng.integers(len(a), size=len(a))
        if np.ptp(a[some]) > 0 and np.ptp(b[some]) > 0:
            draws.append(float(scipy.stats.kendalltau(a[some], b[some]).statistic))
    constant = not (np.ptp(a) > 0 and np.ptp(b) > 0)
    tau = np.nan if constant else float(scipy.stats.kendalltau(a, b).statistic)
    low, high = np.quantile(draws, (0.05, 0.95)) if draws else (np.nan, np.nan)
    return tau, float(low), float(high)


def reparametrised(net: nn.Sequential, factor: float) -> nn.Sequential:
    """A copy whose first layer is multiplied by a factor and whose next layer is divided by it.

    The bias of the first layer is multiplied too, and that of the next layer is kept, so that the
    function is the same.

    Args:
        net: a network whose first two layers with weights have only a ReLU between them.
        factor: a > 0.

    Raises:
        ValueError: the network has no such layers.

    Source: Dinh et al. (2017), section 5.
    """
    made = copy.deepcopy(net)
    modules = list(made)
    places = [i for i, module in enumerate(modules) if isinstance(module, nn.Linear | nn.Conv2d)]
    if len(places) < 2 or places[1] != places[0] + 2 or not isinstance(
        modules[places[0] + 1], nn.ReLU
    ):  # fmt: skip
        raise ValueError("net must have only a ReLU between its first two layers with weights")
    first, second = modules[places[0]], modules[places[1]]
    with torch.no_grad():
        for p in first.parameters():
            p.mul_(factor)
        torch.as_tensor(second.weight).div_(factor)
    return made


def _reparametrised(
    task: WidthTask,
    cell: Values,
    factor: float,
    how: MeasureSettings,
    *,
    store: Any,
    progress: Progress | None,
) -> Values:
    """Measures of the first network of a task after the reparametrisation, as a stored cell."""
    state = torch.as_tensor(np.asarray(cell["state"])[0])
    job = Job(f"reparametrised, {task.title()}", _moved, (task, state, factor, how))
    mark = [*task.mark(), state, factor, how]
    return sweep([job], [mark], store=store, progress=progress)[0]


def _moved(task: WidthTask, state: Any, factor: float, how: MeasureSettings) -> Values:
    seed = task.seeds[0]
    net = restored(task, state, seed)
    assert isinstance(net, nn.Sequential)
    made = reparametrised(net, factor)
    x = task.family.inputs(task.data)[0]
    with torch.no_grad():
        f, again = outputs(net, x), outputs(made, x)
    difference = float((again - f).abs().max() / f.abs().max())
    if difference > _SAME:
        raise RuntimeError(
            f"the reparametrised network must have the same outputs, but they differ by "
            f"{difference:.2g} of the largest"
        )
    return {"output_difference": difference, **complexity_measures.measured(task, made, seed, how)}


def _claim(result: xr.Dataset) -> dict[str, str]:
    """What is found: the rank correlations, and what the reparametrisation changes."""
    tau, names = result.tau, result.measure.values
    if bool(tau.isnull().all()):
        return claim(_PAPER, "There are too few networks for a rank correlation.", "no")
    within = tau.isel(scope=slice(1, None)).mean("scope")
    said = ", ".join(f"{n} {float(tau.sel(measure=n, scope='all')):+.2f}" for n in names)
    inside = ", ".join(f"{n} {float(within.sel(measure=n)):+.2f}" for n in names)
    moved = result.reparametrised
    ratios = moved.sel(state="after") / moved.sel(state="before")
    changed = [n for n in names if not bool(result.invariant.sel(measure=n))]
    shown = ", ".join(f"{n} ×{float(ratios.sel(measure=n)):.2g}" for n in changed)
    found = (
        f"Kendall's τ with the gap over all cells: {said}; mean of τ within a level: {inside}. "
        f"Reparametrisation with equal outputs changes {shown or 'nothing'}."
    )
    flat = ["N_eff", "top eigenvalue", "trace"]
    low = result.tau_low.sel(measure=flat)
    holds = "no"
    if set(flat) <= set(changed) and bool((low.sel(scope="all") > 0).any()):
        # The interval of each level is above zero only where a measure ranks like networks.
        holds = "yes" if bool((low > 0).all()) else "partly"
    return claim(_PAPER, found, holds)

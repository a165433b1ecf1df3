"""Experiments by the names of the figures and claims that they reproduce."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

import xarray as xr

import bayesgen
from bayesgen._internal import checks, files
from bayesgen._internal.hashing import fingerprint
from bayesgen._internal.progress import Progress
from bayesgen.experiments.double_descent import double_descent
from bayesgen.experiments.experiment import Experiment
from bayesgen.experiments.germain import germain
from bayesgen.experiments.order_selection import order_selection
from bayesgen.experiments.regularisation import flexible_polynomial, soft_against_hard
from bayesgen.experiments.rotation import rotation

# The first line of an experiment's docstring is its line in `bayesgen reproduce --list`.
REPRODUCTIONS: dict[str, Experiment[...]] = {
    "fig1abc": flexible_polynomial,
    "fig1g": double_descent,
    "fig5": soft_against_hard,
    "occam": order_selection,
    "germain": germain,
    "rotation": rotation,
}


def reproduce(
    name: str,
    *,
    quick: bool = False,
    store: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    command: str | None = None,
    **settings: Any,
) -> xr.Dataset:
    """Run the experiment of a figure or claim, or read its result where it was stored.

    Args:
        name: a name in `REPRODUCTIONS`.
        quick: whether to run with the experiment's quick settings in place of its defaults.
        store: folder with the results of finished experiments and of the cells of unfinished ones;
            None stores nothing.
        progress: called as progress(done, expected, what).
        command: command to record in the result.
        settings: settings of the experiment, such as `device`, which take precedence over the quick
            ones.

    Returns:
        The experiment's Dataset.

    Raises:
        TypeError: the experiment has no such setting.
        ValueError: an unknown name, or a setting out of range.

    Example:
        >>> reproduce("fig1abc", degree=40).sizes["function"]
        3
    """
    experiment = REPRODUCTIONS[checks.one_of("name", name, tuple(REPRODUCTIONS))]
    known = inspect.signature(experiment).parameters
    for key in settings:
        if key not in known:
            raise TypeError(f"{name} has no setting {key!r}; it has {', '.join(known)}")
    chosen = (experiment.quick if quick else {}) | settings
    path = None
    if store is not None:
        folder = files.writable(store)
        source = Path(inspect.getfile(experiment.__wrapped__)).read_text(encoding="utf-8")
        mark = [bayesgen.__version__, source, *(f"{k}={v!r}" for k, v in sorted(chosen.items()))]
        path = folder / f"{name}-{fingerprint(name, *mark)}.nc"
        if path.exists():
            return read(path)
    offered = {"store": store, "progress": progress, "command": command}
    chosen |= {key: value for key, value in offered.items() if key in known and value is not None}
    result = experiment(**chosen)
    if path is not None:
        write(path, result)
    return result


def read(path: Path) -> xr.Dataset:
    """Read a result from NetCDF."""
    with xr.open_dataset(path, engine="h5netcdf") as kept:
        return kept.load()


def write(path: Path, result: xr.Dataset) -> None:
    """Write a result as NetCDF, completely or not at all."""
    files.write(path, lambda p: result.to_netcdf(p, engine="h5netcdf"))

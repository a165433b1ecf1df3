"""Experiments by the names of the figures and claims that they reproduce."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure

import bayesgen
from bayesgen import plots
from bayesgen._internal import checks, files
from bayesgen._internal.hashing import fingerprint
from bayesgen._internal.progress import ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.data.dataset import Dataset
from bayesgen.experiments.certified_descent import certified_descent
from bayesgen.experiments.claims import (
    bias_variance,
    bumps,
    equivariance,
    full_batch,
    posterior_contraction,
    random_forests,
    textbook_orders,
)
from bayesgen.experiments.double_descent import double_descent
from bayesgen.experiments.experiment import Experiment
from bayesgen.experiments.flatness import flatness
from bayesgen.experiments.frameworks import frameworks
from bayesgen.experiments.germain import germain
from bayesgen.experiments.guess_and_check import guess_and_check
from bayesgen.experiments.inductive_biases import inductive_biases
from bayesgen.experiments.label_noise import gaussian_process_label_noise, resnet_label_noise
from bayesgen.experiments.language_models import language_models
from bayesgen.experiments.mode_connectivity import mode_connectivity
from bayesgen.experiments.model_size import model_size
from bayesgen.experiments.order_selection import order_selection
from bayesgen.experiments.prior_mass import prior_mass
from bayesgen.experiments.regularisation import flexible_polynomial, soft_against_hard
from bayesgen.experiments.rotation import rotation
from bayesgen.experiments.soft_bias import soft_bias
from bayesgen.experiments.widths import widths

# The first line of an experiment's docstring is its line in `bayesgen reproduce --list`.
REPRODUCTIONS: dict[str, Experiment[...]] = {
    "fig1abc": flexible_polynomial,
    "fig1d": gaussian_process_label_noise,
    "fig1e": resnet_label_noise,
    "fig1f": widths,
    "fig1g": double_descent,
    "fig2a": model_size,
    "fig2b": language_models,
    "fig4": inductive_biases,
    "fig5": soft_against_hard,
    "fig6": prior_mass,
    "fig7": mode_connectivity,
    "table1": frameworks,
    "guess-and-check": guess_and_check,
    "occam": order_selection,
    "certified-descent": certified_descent,
    "flatness": flatness,
    "germain": germain,
    "rotation": rotation,
    "soft-bias": soft_bias,
    "bias-variance": bias_variance,
    "bumps": bumps,
    "contraction": posterior_contraction,
    "equivariance": equivariance,
    "forest": random_forests,
    "full-batch": full_batch,
    "textbook": textbook_orders,
}


@dataclass(frozen=True)
class Page:
    """Several reproductions in one figure.

    Attributes:
        parts: their names in `REPRODUCTIONS`.
        plot: results by name → figure.
        says: description, one line.
        models: names of parts by the kind of model, for those that can be asked for by it.
    """

    parts: tuple[str, ...]
    plot: Callable[[dict[str, xr.Dataset]], Figure]
    says: str
    models: Mapping[str, str] = field(default_factory=dict)


PAGES = {
    "fig1": Page(
        ("fig1abc", "fig1d", "fig1e", "fig1f", "fig1g"),
        plots.figure_one,
        "All panels of figure 1 on one page: benign overfitting and double descent.",
    ),
    "fig2": Page(
        ("fig2a", "fig2b"),
        plots.figure_two,
        "Both parts of figure 2 on one page: bounds of classifiers and of language models.",
        {"classifier": "fig2a", "language": "fig2b"},
    ),
}


def described() -> dict[str, str]:
    """One line for each name that `reproduce` accepts, pages first."""
    lines = {name: page.says for name, page in PAGES.items()}
    for name, experiment in REPRODUCTIONS.items():
        lines[name] = (experiment.__doc__ or "").strip().split("\n")[0]
    return lines


def part_of(name: str, model: str) -> str:
    """The part of a page for one kind of model.

    Raises:
        ValueError: the page has no such part; the name is not that of a page with kinds of models.

    Example:
        >>> part_of("fig2", "language")
        'fig2b'
    """
    pages = [page for page, made in PAGES.items() if made.models]
    if name not in pages:
        raise ValueError(f"model can be given for {', '.join(pages)}, got it for {name!r}")
    known = PAGES[name].models
    return known[checks.one_of("model", model, tuple(known))]


@shows_progress
def reproduce(
    name: str,
    *,
    quick: bool = False,
    store: str | os.PathLike[str] | None = None,
    progress: ProgressOption = None,
    command: str | None = None,
    on_result: Callable[[xr.Dataset], None] | None = None,
    **settings: Any,
) -> xr.Dataset:
    """Run the experiment of a figure or claim, or read its result where it was stored.

    Args:
        name: a name in `REPRODUCTIONS`.
        quick: whether to run with the experiment's quick settings in place of its defaults.
        store: folder for the result, NAME.nc, and for the cells of unfinished experiments. A result
            of the same settings and the same version of the experiment is read from there. None
            stores nothing.
        progress: called as progress(done, expected, what); True shows a progress bar.
        command: command to record in the result.
        on_result: called with the result before it is written, or with that which was read.
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
        if key not in known or key in {"store", "progress", "command"}:
            own = sorted(set(known) - {"store", "progress", "command"})
            raise TypeError(f"{name} has no setting {key!r}; it has {', '.join(own)}")
    chosen = (experiment.quick if quick else {}) | settings
    mark = _mark(name, experiment, chosen)
    offered: dict[str, Any] = {"progress": progress, "command": command}
    folder = None
    if store is not None:
        folder = files.writable(store)
        kept = stored(folder / f"{name}.nc")
        if kept is not None and kept.attrs.get("run") == mark:
            if on_result is not None:
                on_result(kept)
            return kept
        offered["store"] = folder / "cells"
    chosen |= {key: value for key, value in offered.items() if key in known and value is not None}
    result = experiment(**chosen)
    result.attrs["run"] = mark
    if on_result is not None:
        on_result(result)
    if folder is not None:
        files.write_bytes(folder / f"{name}.nc", files.netcdf(result))
    return result


@shows_progress
def reproduce_page(
    name: str,
    *,
    quick: bool = False,
    store: str | os.PathLike[str] | None = None,
    progress: ProgressOption = None,
    command: str | None = None,
    **settings: Any,
) -> dict[str, xr.Dataset]:
    """Run all parts of a page, or read those that were stored.

    Args:
        name: a name in `PAGES`.
        quick, store, progress, command: as in `reproduce`, for each part.
        settings: settings that each part takes if it has them.

    Returns:
        Results by name.

    Raises:
        TypeError: no part has such a setting.
        ValueError: an unknown name, or a setting out of range.
    """
    page = PAGES[checks.one_of("name", name, tuple(PAGES))]
    for key in settings:
        if not any(accepted(part, {key: None}) for part in page.parts):
            raise TypeError(f"no part of {name} has a setting {key!r}; they are {page.parts}")
    return {
        part: reproduce(
            part,
            quick=quick,
            store=store,
            progress=progress,
            command=command,
            **accepted(part, settings),
        )
        for part in page.parts
    }


def accepted(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Those of some settings that the experiment of this name has."""
    known = inspect.signature(REPRODUCTIONS[name]).parameters
    return {key: value for key, value in settings.items() if key in known}


def _mark(name: str, experiment: Experiment[...], settings: dict[str, Any]) -> str:
    """A hash of what the result depends on: the settings, the version, and the source files."""
    values = [(key, _content(value)) for key, value in sorted(settings.items())]
    return fingerprint(name, bayesgen.__version__, *_sources(experiment), *values)


def _content(value: Any) -> str:
    """A text that tells settings apart; texts of arrays and tensors would leave out digits."""
    if isinstance(value, Dataset):
        return value.fingerprint
    if isinstance(value, torch.Tensor | np.ndarray):
        return fingerprint(torch.as_tensor(value))
    if isinstance(value, Mapping):
        return repr([(repr(key), _content(each)) for key, each in value.items()])
    if isinstance(value, list | tuple | range):
        return repr([_content(each) for each in value])
    return repr(value)


def _sources(experiment: Experiment[...]) -> list[str]:
    """Source text of an experiment's module, and of the experiments' modules that it imports."""
    module = inspect.getmodule(cast(Any, experiment).__wrapped__)
    names = {module.__name__} if module is not None else set()
    for value in vars(module).values():
        own = value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", None)
        if isinstance(own, str) and own.startswith("bayesgen.experiments."):
            names.add(own)
    paths = [inspect.getfile(sys.modules[own]) for own in sorted(names) if own in sys.modules]
    return [Path(path).read_text(encoding="utf-8") for path in paths]


def stored(path: Path) -> xr.Dataset | None:
    """A stored result, or None if it is missing or incomplete."""
    try:
        with xr.open_dataset(path, engine="h5netcdf") as kept:
            return kept.load()
    except (OSError, ValueError):
        return None

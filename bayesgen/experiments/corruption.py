"""Experiment: evidence, fit and test error of a Gaussian process as labels are corrupted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from bayesgen import data as datasets, kernels, likelihoods, plots
from bayesgen._internal import checks
from bayesgen._internal.progress import ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.data.corruption import KINDS, corrupt_labels
from bayesgen.data.dataset import Dataset
from bayesgen.evidence import Evidence
from bayesgen.experiments.experiment import experiment, provenance
from bayesgen.models import GaussianProcess, GPPosterior

# Noise variance of the interpolating model: a standard deviation of 0.01 on targets of size one.
INTERPOLATION = 1e-4

# Name → (units, long name), for the variables of the Dataset.
_VARIABLES = {
    "log_marginal_likelihood": ("nats", "log marginal likelihood (evidence)"),
    "fit": ("nats", "expected log likelihood under the posterior"),
    "complexity": ("nats", "KL divergence of posterior from prior"),
    "effective_dimension": ("1", "effective dimension, summed over outputs"),
    "evidence_error": ("nats", "rounding error of the log marginal likelihood"),
    "jitter": ("1", "variance added to the diagonal for factorisation"),
    "train_error": ("1", "share of training labels, as corrupted, not fitted"),
    "test_error": ("1", "error on clean test labels"),
    "train_error_interpolating": (
        "1",
        f"training error with the noise variance fixed at {INTERPOLATION:g}",
    ),
    "log_marginal_likelihood_interpolating": (
        "nats",
        f"evidence with the noise variance fixed at {INTERPOLATION:g}",
    ),
    "altered": ("1", "share of training labels that differ from the original"),
    "at_bound": ("1", "1 where σ²/s or the length-scale ended on the edge of what was searched"),
    "lengthscale": ("input units", "length-scale"),
    "scale": ("1", "outputscale (variance)"),
    "noise": ("1", "noise variance"),
}


@experiment(plot=plots.corruption)
@shows_progress
def corruption(
    data: str | Dataset = "digits",
    *,
    levels: Sequence[float] | None = None,
    seeds: int | Sequence[int] = 3,
    kernel: Any = "rbf",
    targets: str = "one-hot",
    noise: float | None = None,
    kind: str = "uniform",
    train: int | None = None,
    test: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    dtype: torch.dtype = torch.float64,
    device: str | torch.device = "cpu",
    engine: str | None = None,
    work: str | os.PathLike[str] | None = None,
    progress: ProgressOption = None,
    command: str | None = None,
) -> xr.Dataset:
    """Fit a Gaussian process to every corruption of the training labels.

    The inputs are the same throughout, so all levels, seeds and classes share the kernel's spectra.
    Each task has its own length-scale, outputscale and noise variance of maximum evidence. A
    second, interpolating model has the first task's length-scale, the noise variance fixed at 1e-4,
    and only the outputscale learnt. It shows that the same prior can fit any labels (Zhang et al.
    2017), and what its evidence is then.

    Args:
        data: a name for `bayesgen.data.load`, or a `Dataset`; `corruption(x, y, ...)` makes one of
            your own inputs and labels by `bayesgen.data.from_arrays`.
        levels: probabilities with which labels are replaced, increasing; default 0, 0.1, …, 1.
        seeds: number of corruptions of each level, or their seeds.
        kernel: a text for `bayesgen.kernels.parsed`, such as "rbf", "nngp(depth=3)" or "rbf +
            linear"; a gpytorch kernel, or a function.
        targets: "one-hot" (minus 1/C) or "dirichlet" (`bayesgen.likelihoods`).
        noise: noise variance σ² to keep, e.g. 1e-4 to interpolate; None learns it.
        kind: "uniform" or "flip"; see `bayesgen.corrupt_labels`.
        train, test: number of training and test points to draw; None for all.
        data_dir: for `bayesgen.data.load`, where data is a name; it must be None for a `Dataset`.
        dtype, device: of the inputs.
        engine, work: for `bayesgen.GaussianProcess`. With block Lanczos, which is used for more
            points than a dense spectrum can take, there is no interpolating model, because the
            method cannot resolve such a small noise variance.
        progress: called as progress(done, expected, what); True shows a progress bar.
        command: command to record in the result; None records this call.

    Returns:
        Dataset of dims (level, seed), with units and long names in the attributes:
        log_marginal_likelihood, fit, complexity, effective_dimension, evidence_error, jitter,
        train_error (against the corrupted labels), test_error (against clean ones),
        train_error_interpolating, log_marginal_likelihood_interpolating, altered, at_bound,
        lengthscale, scale, noise. The attributes record how to rerun it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Source: Zhang et al. (2017); Wilson & Izmailov (2020), section 6, with the exact evidence of
    regression on one-hot labels in place of their variational bound.

    Example:
        >>> result = corruption("digits", train=60, test=50, levels=[0.0, 1.0], seeds=1)
        >>> bool(result.test_error[0, 0] < result.test_error[1, 0])
        True
    """
    chosen, numbers = grid(levels, seeds, kind)
    encode = TARGETS[checks.one_of("targets", targets, tuple(TARGETS))]
    if noise is not None and targets == "dirichlet":
        raise ValueError(
            "noise must be None with dirichlet targets: theirs is known for each point"
        )
    # A wrong text is refused before the data, and so their number of columns, are known.
    _, prior_name = _kernel(kernel, _MANY)
    if command is None:
        command = (
            f"bayesgen.experiments.corruption({data!r}, levels={chosen}, seeds={numbers}, "
            f"kernel={prior_name!r}, targets={targets!r}, noise={noise}, kind={kind!r}, "
            f"train={train}, test={test})"
        )
    data = loaded(data, train=train, test=test, data_dir=data_dir, dtype=dtype, device=device)
    prior, _ = _kernel(kernel, data.x_train.shape[1])
    C, shape = data.num_classes, (len(chosen), len(numbers))
    labels, masks = corruptions(data.y_train, chosen, numbers, C, kind)
    coded = encode(labels, C, data.x_train.dtype, noise)
    gp = GaussianProcess(
        prior, coded.noise, hyperparameters=coded.hyperparameters, engine=engine, work=work
    )
    posterior = gp.fit(data.x_train, coded.y, progress=progress)
    twin: dict[str, Tensor] = {}
    if posterior.dense:
        other = _interpolating(posterior, coded.y, data)
        twin = {
            "train_error_interpolating": _error(other.fitted(), labels),
            "log_marginal_likelihood_interpolating": other.evidence.log_marginal_likelihood,
        }

    values = {
        **_parts(posterior.evidence),
        "train_error": _error(posterior.fitted(), labels),
        "test_error": _error(posterior.mean(data.x_test), data.y_test),
        **twin,
        "altered": masks.double().mean(-1),
        "at_bound": posterior.at_bound,
        "scale": posterior.scale,
    }
    if posterior.noise.shape == posterior.scale.shape:
        values["noise"] = posterior.noise
    if kernels.has_one_lengthscale(posterior.kernels[0]):
        values["lengthscale"] = posterior.lengthscale
    return xr.Dataset(
        {
            name: (
                ("level", "seed"),
                values[name].detach().double().cpu().numpy().reshape(shape),
                {"units": units, "long_name": long_name},
            )
            for name, (units, long_name) in _VARIABLES.items()
            if name in values
        },
        coords={
            "level": ("level", chosen, {"units": "1", "long_name": "share of labels redrawn"}),
            "seed": ("seed", numbers, {"long_name": "seed of the corruption"}),
        },
        attrs={
            "title": "Evidence against label corruption",
            "data": data.name,
            "data_fingerprint": data.fingerprint,
            "n": len(data.y_train),
            "n_test": len(data.y_test),
            "inputs": data.x_train.shape[1],
            "classes": C,
            "kernel": prior_name,
            "targets": targets,
            "corruption": kind,
            "fixed_noise": "none" if noise is None else str(noise),
            "method": posterior.evidence.method,
            "spectra": posterior.spectra,
            "dtype": str(data.x_train.dtype).removeprefix("torch."),
            "device": str(data.x_train.device),
            **provenance(command),
        },
    )


def summary(result: xr.Dataset) -> pd.DataFrame:
    """Table of means over seeds, one row for each level, as the command prints it.

    Args:
        result: result of `corruption`.

    Returns:
        Columns: evidence, fit and complexity in nats per observation; effective dimension; training
        error, training error of the interpolating model where there is one, and test error with its
        standard deviation.

    Example:
        >>> table = summary(corruption("digits", train=60, test=50, levels=[0.0, 1.0], seeds=1))
        >>> list(table.index)
        [0.0, 1.0]
    """
    mean, n = result.mean("seed"), result.attrs["n"]
    twin = {}
    if "train_error_interpolating" in result:
        twin = {"inter- polating": mean.train_error_interpolating}
    return pd.DataFrame(
        {
            "log p(D) / n": mean.log_marginal_likelihood / n,
            "fit / n": mean.fit / n,
            "KL / n": mean.complexity / n,
            "N_eff": mean.effective_dimension,
            "train error": mean.train_error,
            **twin,
            "test error": mean.test_error,
            "± sd": result.test_error.std("seed"),
        },
        index=pd.Index(result.level.values, name="level"),
    )


# --------------------------------------------------------------------------- helpers


@dataclass(frozen=True)
class _Coded:
    """Labels coded as Gaussian targets, with the noise variance and what is learnt."""

    y: Tensor
    noise: Tensor | float | None
    hyperparameters: tuple[str, ...]


def _one_hot(labels: Tensor, C: int, dtype: torch.dtype, noise: float | None) -> _Coded:
    learn = ("kernel", "scale", "noise") if noise is None else ("kernel", "scale")
    return _Coded(likelihoods.one_hot(labels, C, dtype=dtype), noise, learn)


def _dirichlet(labels: Tensor, C: int, dtype: torch.dtype, _: float | None) -> _Coded:
    y, noise = likelihoods.dirichlet(labels, C, dtype=dtype)
    return _Coded(y, noise, ("kernel", "scale"))


# More columns than the images of `bayesgen.data` have.
_MANY = 10_000
TARGETS = {"one-hot": _one_hot, "dirichlet": _dirichlet}


def _interpolating(posterior: GPPosterior, y: Tensor, data: Dataset) -> GPPosterior:
    """Fit the first task's kernel to all tasks with a very small fixed noise variance."""
    gp = GaussianProcess(posterior.kernels[0], INTERPOLATION, hyperparameters=("scale",))
    return gp.fit(data.x_train, y)


def _parts(evidence: Evidence) -> dict[str, Tensor]:
    return {
        "log_marginal_likelihood": evidence.log_marginal_likelihood,
        "fit": evidence.fit,
        "complexity": evidence.complexity,
        "effective_dimension": evidence.effective_dimension,
        "evidence_error": evidence.error,
        "jitter": evidence.jitter,
    }


def _error(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores.argmax(-1) != labels).double().mean(-1)


def _kernel(kernel: Any, columns: int) -> tuple[Any, str]:
    if isinstance(kernel, str):
        return kernels.parsed(kernel, columns), kernel
    return kernel, getattr(kernel, "__name__", type(kernel).__name__)


def loaded(data: str | Dataset, **settings: Any) -> Dataset:
    """Points of a Dataset, or of one loaded by name with the settings of `bayesgen.data.load`.

    Of a Dataset, the numbers of points in the settings `train` and `test` are drawn, and the inputs
    take the settings' dtype and device.

    Raises:
        TypeError: the data are something else.
        ValueError: a folder is given for a Dataset, which is at hand.
    """
    if isinstance(data, str):
        return datasets.load(data, **settings)
    if not isinstance(data, Dataset):
        raise TypeError(f"data must be a name or a Dataset, got {type(data).__name__}")
    if settings.get("data_dir") is not None:
        raise ValueError("data_dir must not be given with a Dataset, which needs no files")
    found = datasets.subset(data, settings.get("train"), settings.get("test"))
    where = {name: settings[name] for name in ("dtype", "device") if settings.get(name) is not None}
    if not where:
        return found
    device = {name: place for name, place in where.items() if name == "device"}
    return replace(
        found,
        x_train=found.x_train.to(**where),
        x_test=found.x_test.to(**where),
        y_train=found.y_train.to(**device),
        y_test=found.y_test.to(**device),
    )


def grid(
    levels: Sequence[float] | None, seeds: int | Sequence[int], kind: str
) -> tuple[list[float], list[int]]:
    """Check the levels and seeds of a corruption study."""
    checks.one_of("kind", kind, tuple(KINDS))
    return _levels(levels), _seeds(seeds)


def corruptions(
    labels: Tensor, levels: list[float], seeds: list[int], num_classes: int, kind: str
) -> tuple[Tensor, Tensor]:
    """Corrupted labels (levels × seeds, n), ordered by level, and a mask of the altered ones."""
    draws = [
        corrupt_labels(labels, level, num_classes=num_classes, seed=seed, kind=kind)
        for level in levels
        for seed in seeds
    ]
    new, masks = zip(*draws, strict=True)
    return torch.stack(new), torch.stack(masks)


def _levels(levels: Sequence[float] | None) -> list[float]:
    if levels is None:
        return [i / 10 for i in range(11)]
    chosen = [checks.share("levels", level) for level in np.atleast_1d(np.asarray(levels))]
    if not chosen or any(b <= a for a, b in pairwise(chosen)):
        raise ValueError(f"levels must be one or more increasing numbers, got {chosen}")
    return chosen


def _seeds(seeds: int | Sequence[int]) -> list[int]:
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        if seeds < 1:
            raise ValueError(f"seeds must be at least 1, got {seeds}")
        return list(range(seeds))
    numbers = list(seeds) if isinstance(seeds, Sequence) else []
    whole = all(isinstance(s, int) and not isinstance(s, bool) for s in numbers)
    if not numbers or not whole or len(set(numbers)) < len(numbers):
        raise ValueError(f"seeds must be a count or a list of different integers, got {seeds!r}")
    return numbers

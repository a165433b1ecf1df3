"""Experiments: models that can fit any labels, and how evidence tells noise from structure."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import xarray as xr

from bayesgen import plots
from bayesgen._internal.progress import ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.data.dataset import Dataset
from bayesgen.experiments.corruption import corruption
from bayesgen.experiments.corruption_models import corruption_models
from bayesgen.experiments.experiment import claim, experiment

# Training errors up to which a model fits its labels, distance of a test error from guessing, and
# rises of the evidence between neighbouring levels, in units of its whole fall, that luck explains.
_FITTED, _BETTER, _RISE = 0.01, 0.1, 0.15


@experiment(plot=plots.label_noise, quick={"data": "digits", "train": 500, "seeds": 2})
@shows_progress
def gaussian_process_label_noise(
    data: str | Dataset = "cifar10",
    *,
    levels: Sequence[float] | None = None,
    seeds: int | Sequence[int] = 3,
    train: int | None = None,
    test: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    dtype: torch.dtype = torch.float64,
    device: str | torch.device = "cpu",
    progress: ProgressOption = None,
    command: str | None = None,
) -> xr.Dataset:
    """Evidence and errors of a Gaussian process that fits any labels, against label noise.

    This is figure 1 (d): a GP with an RBF kernel on pixels regresses on one-hot labels. It is
    `bayesgen.experiments.corruption`, whose interpolating model has a small fixed noise variance
    and shows the flexibility of the prior, and whose other model has the noise variance of maximum
    evidence. Changed against the source: the evidence is exact where theirs is.

    Args:
        data, levels, seeds, train, test, data_dir, dtype, device: as in
            `bayesgen.experiments.corruption`.
        progress: called as progress(done, expected, what); True shows a progress bar.
        command: command to record in the result; None records this call.

    Returns:
        The Dataset of `bayesgen.experiments.corruption`, of dims (level, seed).

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Source: Wilson (2025), figure 1 (d); Zhang et al. (2017); Wilson & Izmailov (2020).

    Example:
        >>> result = gaussian_process_label_noise(
        ...     "digits", train=60, test=50, levels=[0.0, 1.0], seeds=1)
        >>> bool(result.log_marginal_likelihood[0, 0] > result.log_marginal_likelihood[1, 0])
        True
    """
    result = corruption(
        data,
        levels=levels,
        seeds=seeds,
        train=train,
        test=test,
        data_dir=data_dir,
        dtype=dtype,
        device=device,
        progress=progress,
        command=command,
    )
    result.attrs |= _claim(result, "a Gaussian process")
    result.attrs["title"] = "A Gaussian process fits noisy labels, and its evidence falls"
    return result


@experiment(
    plot=plots.label_noise,
    quick={"data": "digits", "train": 100, "seeds": 2, "levels": (0.0, 1 / 3, 2 / 3, 1.0)},
)
@shows_progress
def resnet_label_noise(
    data: str | Dataset = "cifar10",
    *,
    levels: Sequence[float] | None = None,
    seeds: int | Sequence[int] = 3,
    train: int | None = None,
    test: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    dtype: torch.dtype = torch.float64,
    device: str | torch.device = "cpu",
    store: str | os.PathLike[str] | None = None,
    progress: ProgressOption = None,
    command: str | None = None,
) -> xr.Dataset:
    """Laplace evidence and errors of a ResNet that fits any labels, against label noise.

    This is figure 1 (e): PreResNet-20 is trained until it fits its labels. Its evidence is
    Laplace's with KFAC and one prior precision for each layer, at one training loss for all levels;
    see `bayesgen.experiments.corruption_models`.

    Args:
        data, levels, seeds, train, test, data_dir, dtype, device, store: as in
            `bayesgen.experiments.corruption_models`.
        progress: called as progress(done, expected, what); True shows a progress bar.
        command: command to record in the result; None records this call.

    Returns:
        The Dataset of `bayesgen.experiments.corruption_models` for "resnet", of dims (level, seed).

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Source: Wilson (2025), figure 1 (e); Zhang et al. (2017); Immer et al. (2021).
    """
    result = corruption_models(
        data,
        ["resnet"],
        levels=levels,
        seeds=seeds,
        train=train,
        test=test,
        data_dir=data_dir,
        dtype=dtype,
        device=device,
        store=store,
        progress=progress,
        command=command,
    )
    # What describes a model is one string for the one model.
    result = result.isel(model=0, drop=True).drop_vars(["kind", "says", "excludes"])
    result.attrs |= _claim(result, "a ResNet")
    result.attrs["title"] = "A ResNet fits noisy labels, and its evidence falls"
    return result


def _claim(result: xr.Dataset, who: str) -> dict[str, str]:
    """Attributes with the paper's claim and this result, from means over seeds."""
    means = result.mean("seed")
    name = "train_error_interpolating"
    fitted = float(means[name if name in result else "train_error"].max())
    evidence = (means.log_marginal_likelihood / result.attrs["n"]).values
    # An inner level, where there is one, says whether the model generalises from noisy labels.
    half = means.isel(level=int(abs(means.level - 0.5).argmin("level")))
    noisy = 0 < float(half.level) < 1
    guessing = 1 - 1 / result.attrs["classes"]
    rise = float(max([0.0, *(evidence[1:] - evidence[:-1])]))
    fall = float(evidence[0] - evidence[-1])
    found = (
        f"The largest training error at any level is {fitted:.3f}. At level "
        f"{float(half.level):.2g} the test error is {float(half.test_error):.3f}, where guessing "
        f"has {guessing:.3f}. The evidence per observation falls from {evidence[0]:.3f} to "
        f"{evidence[-1]:.3f} nats and rises by at most {rise:.3f} between neighbouring levels."
    )
    good = [
        fitted <= _FITTED,
        noisy and float(half.test_error) < guessing - _BETTER,
        fall > 0 and rise < _RISE * fall,
    ]
    return claim(
        f"{who[0].upper()}{who[1:]} fits noisy labels perfectly and still generalises, and its "
        "marginal likelihood decreases with the share of altered labels.",
        found,
        "yes" if all(good) else "partly" if good[2] else "no",
    )

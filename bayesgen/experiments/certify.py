"""Experiment: PAC-Bayes certificates and evidence of Gaussian processes as labels are corrupted."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd
import torch
import xarray as xr
from torch import Tensor, nn

from bayesgen import data as datasets, kernels, likelihoods, pacbayes, plots, pretrained
from bayesgen._internal import checks
from bayesgen._internal.progress import Progress, ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.data.dataset import Dataset
from bayesgen.experiments.corruption import INTERPOLATION, corruptions, grid, loaded
from bayesgen.experiments.experiment import experiment, provenance
from bayesgen.features import bases
from bayesgen.models import GaussianProcess, LinearModel
from bayesgen.pacbayes import expected_losses
from bayesgen.pacbayes.certificates.certificate import Certificate
from bayesgen.pacbayes.certificates.request import THEOREMS
from bayesgen.posterior.posterior import ExactPosterior

# Length-scales of the priors, stated before the data, as multiples of the square root of the number
# of inputs. That is the typical distance between points whose inputs lie in [0, 1].
MULTIPLES = tuple(2.0 ** (k / 2) for k in range(-6, 2))
# Number of filters of the convolutional prior.
FILTERS = 512

_VARIABLES = {
    "bound": ("1", "certified 0–1 risk of a function drawn from the posterior"),
    "vote_bound": ("1", "certified 0–1 risk of the majority vote"),
    "gibbs_risk": ("1", "Gibbs risk on the training sample, as corrupted"),
    "test_gibbs_risk": ("1", "Gibbs risk on test data corrupted at the same level"),
    "test_risk": ("1", "risk of the majority vote on test data corrupted at the same level"),
    "complexity": ("nats", "KL(Q‖P)"),
    "paid": ("nats", "KL and payments"),
    "rademacher": (
        "1",
        "margin bound by the sampled Rademacher complexity of the ball of functions",
    ),
    "rademacher_trace": ("1", "margin bound by the trace form of the Rademacher complexity"),
    "fat_shattering": ("1", "margin bound by the ball's fat-shattering dimension"),
    "vc": ("1", "uniform bound by the VC dimension of the kernel's hyperplanes"),
    "log_marginal_likelihood": ("nats", "evidence of the certified prior at its best s and σ²"),
    "lengthscale": ("input units", "length-scale of the certified prior"),
    "scale": ("1", "outputscale of the certified posterior"),
    "noise": ("1", "noise variance of the certified posterior"),
}


@experiment(plot=plots.certify)
@shows_progress
def certify(
    data: str | Dataset = "digits",
    *,
    levels: Sequence[float] | None = None,
    seeds: int | Sequence[int] = 1,
    kernel: str = "rbf",
    lengthscales: Sequence[float] | None = None,
    groups: Sequence[Sequence[int]] | None = None,
    features: str | None = None,
    layers: Sequence[str] | None = None,
    store: str | os.PathLike[str] | None = None,
    delta: float = 0.05,
    bound: str = "maurer",
    kind: str = "uniform",
    train: int | None = None,
    test: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    progress: ProgressOption = None,
    command: str | None = None,
) -> xr.Dataset:
    """Certify Gaussian processes on corrupted labels, in the setting of Zhang et al. (2017).

    For each task, `bayesgen.pacbayes.certify` finds the best certificate among priors with
    length-scales stated before the data. The noise variance is tuned at no cost, and the choice of
    the prior is paid for. For comparison, uniform bounds by Rademacher complexity, fat-shattering
    dimension and VC dimension are computed for the ball of functions that contains an interpolant
    of every task; they do not depend on the labels' structure.

    The sample consists of independent draws from the corrupted distribution, and a bound is about
    new draws from it, so the test labels are corrupted in the same way.

    Args:
        data: a name for `bayesgen.data.load`, or a `Dataset`.
        levels: probabilities with which labels are replaced, increasing; default 0, 0.1, …, 1.
        seeds: number of corruptions of each level, or their seeds.
        kernel: "rbf", "matern12", "matern32" or "matern52", with one prior for each length-scale;
            or "convolutional", random convolutional features of colour images, with one prior.
        lengthscales: length-scales stated before the data; by default eight multiples of
            √(number of inputs).
        groups: classes to distinguish, each a group of the data's classes; see
            `bayesgen.data.merge`.
        features: a network of `bayesgen.pretrained.NAMES`, on whose features of images there is one
            prior for each set of layers, linear in features of unit length; `kernel` is not used.
        layers: layers whose features the priors use, each a name or several with "+" between;
            None for "logits" and "stage7+head+logits".
        store: folder in which the features are kept.
        delta, bound: terms of the certificates; the vote's bound is the C-bound or twice the Gibbs
            bound.
        train, test: number of points of the groups to keep; None keeps all.
        kind, data_dir: as in `bayesgen.experiments.corruption`.
        progress: called as progress(done, expected, what); True shows a progress bar.
        command: command to record in the result; None records this call.

    Returns:
        Dataset of dims (level, seed) with bound, vote_bound, gibbs_risk, test_gibbs_risk,
        test_risk, complexity, paid, rademacher, rademacher_trace, fat_shattering, vc,
        log_marginal_likelihood, scale, noise and, where there is one, lengthscale.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Source: Zhang et al. (2017); Maurer (2004); Wilson (2025), section 3.

    Example:
        >>> result = certify("digits", train=60, test=50, levels=[0.0, 1.0], lengthscales=[2.0])
        >>> bool(result.bound[0, 0] < result.bound[1, 0])
        True
    """
    checks.one_of("bound", bound, tuple(THEOREMS))
    chosen, numbers = grid(levels, seeds, kind)
    data = loaded(data, data_dir=data_dir)
    if groups is not None:
        data = datasets.merge(data, groups)
    data = datasets.subset(data, train, test)
    C = data.num_classes
    labels, altered = corruptions(data.y_train, chosen, numbers, C, kind)
    test_labels, _ = corruptions(data.y_test, chosen, numbers, C, kind)
    if features is None:
        models = priors(kernel, lengthscales, data)
    else:
        if lengthscales is not None:
            raise ValueError("lengthscales must be None with features, whose priors are linear")
        kernel = f"features of {features}"
        data, models = of_features(features, layers, data, store, progress)
    y = likelihoods.one_hot(labels, C, dtype=data.x_train.dtype)
    found: list[Certificate] = pacbayes.certify(
        models, data.x_train, y, delta=delta, bound=bound, progress=progress
    )
    uniform = _uniform(found, delta)
    values: dict[str, list[float]] = {name: [] for name in _VARIABLES}
    for b, one in enumerate(found):
        posterior = one.posterior
        mean, variance = _latent(posterior, data.x_test)
        gibbs = expected_losses.zero_one(mean, variance, test_labels[b])
        row = {
            "bound": one.bound,
            "vote_bound": math.nan if one.vote is None else one.vote,
            "gibbs_risk": one.risk,
            "test_gibbs_risk": float(gibbs.mean()),
            "test_risk": float((mean.argmax(-1) != test_labels[b]).double().mean()),
            "complexity": one.complexity,
            "paid": one.paid,
            **uniform[b],
            "log_marginal_likelihood": float(
                posterior.spectrum().maximise().evidence.log_marginal_likelihood
            ),
            **one.settings,
        }
        for name in _VARIABLES:
            values[name].append(float(row.get(name, math.nan)))
    shape = (len(chosen), len(numbers))
    return xr.Dataset(
        {
            name: (
                ("level", "seed"),
                torch.tensor(column, dtype=torch.float64).reshape(shape).numpy(),
                {"units": _VARIABLES[name][0], "long_name": _VARIABLES[name][1]},
            )
            for name, column in values.items()
            if not all(math.isnan(v) for v in column)
        },
        coords={
            "level": ("level", chosen, {"units": "1", "long_name": "share of labels redrawn"}),
            "seed": ("seed", numbers, {"long_name": "seed of the corruption"}),
        },
        attrs={
            "title": "Certificates against label corruption",
            "data": data.name,
            "data_fingerprint": data.fingerprint,
            "n": len(data.y_train),
            "n_test": len(data.y_test),
            "classes": C,
            "kernel": kernel,
            "priors": len(models),
            "delta": delta,
            "bound_name": THEOREMS[bound].words,
            "altered": float(altered.double().mean()),
            **provenance(
                command or f"bayesgen.experiments.certify({data.name!r}, levels={chosen}, ...)"
            ),
        },
    )


def summary(result: xr.Dataset) -> pd.DataFrame:
    """Table of means over seeds, one row for each level, as the command prints it.

    Args:
        result: result of `certify`.

    Example:
        >>> result = certify("digits", train=60, test=50, levels=[0.0, 1.0], lengthscales=[2.0])
        >>> list(summary(result).index)
        [0.0, 1.0]
    """
    mean, n = result.mean("seed"), result.attrs["n"]
    return pd.DataFrame(
        {
            "bound": mean.bound,
            "vote": mean.vote_bound,
            "Gibbs risk": mean.gibbs_risk,
            "test Gibbs": mean.test_gibbs_risk,
            "test error": mean.test_risk,
            "KL": mean.complexity,
            "Rade- macher": mean.rademacher,
            "log p(D) / n": mean.log_marginal_likelihood / n,
        },
        index=pd.Index(result.level.values, name="level"),
    )


def priors(kernel: str, lengthscales: Sequence[float] | None, data: Dataset) -> dict[str, Any]:
    """Models by name whose priors do not depend on the data."""
    checks.one_of("kernel", kernel, (*kernels.NAMES, "convolutional"))
    inputs = data.x_train.shape[1]
    if kernel == "convolutional":
        if lengthscales is not None:
            raise ValueError("lengthscales must be None for the convolutional prior: it has none")
        basis = bases.Convolutional(FILTERS)
        return {"convolutional": LinearModel(basis, decomposition="auto")}
    values = [m * math.sqrt(inputs) for m in MULTIPLES] if lengthscales is None else lengthscales
    models = {}
    for value in values:
        length = checks.positive("lengthscales", float(value), like=data.x_train)
        prior = kernels.with_lengthscale(kernels.named(kernel).to(data.x_train), length)
        models[f"length-scale {float(value):.3g}"] = GaussianProcess(prior)
    return models


def of_features(
    name: str,
    layers: Sequence[str] | None,
    data: Dataset,
    store: str | os.PathLike[str] | None,
    progress: Progress | None,
) -> tuple[Dataset, dict[str, Any]]:
    """The data with features of a published network as inputs, and linear models on them."""
    widths = pretrained.layers(name)
    every = list(widths)
    wanted = [every[-1], "+".join(every[-3:])] if layers is None else list(layers)
    parts = {text: text.split("+") for text in wanted}
    for text in {part for of in parts.values() for part in of}:
        checks.one_of("layers", text, tuple(every))
    image = _image(data)
    x_train, x_test = (
        pretrained.features(name, x, layer=every, store=store, image=image, progress=progress)
        for x in (data.x_train, data.x_test)
    )
    starts = dict(zip(every, itertools.accumulate(widths.values(), initial=0), strict=False))
    models = {}
    for text, of in parts.items():
        columns = torch.cat([torch.arange(starts[p], starts[p] + widths[p]) for p in of])
        basis = bases.Function(partial(_unit, columns=columns))
        models[text] = LinearModel(basis, decomposition="auto")
    return replace(data, x_train=x_train, x_test=x_test), models


def _unit(x: Tensor, columns: Tensor) -> Tensor:
    """Some columns of features, scaled to rows of unit length."""
    return nn.functional.normalize(x[:, columns], dim=1)


def _image(data: Dataset) -> tuple[int, int, int]:
    """Shape of the images of a data set, whose rows are flattened images."""
    inputs = math.prod(data.x_train.shape[1:])
    for channels in (3, 1):
        side = math.isqrt(inputs // channels)
        if channels * side * side == inputs:
            return channels, side, side
    raise ValueError(
        f"features are for square images of 1 or 3 channels, got {inputs} inputs in {data.name}"
    )


def _latent(posterior: ExactPosterior, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (m, C) and shared variance (m, 1) of f at new points."""
    latent = posterior.predict(x, latent=True)
    return latent.mean, latent.variance[:, :1]


def _uniform(found: list[Certificate], delta: float) -> list[dict[str, float]]:
    """Uniform bounds for the smallest ball that contains an interpolant of every task.

    They are for the first class against the rest, in the Hilbert space of the first task's kernel.
    No payment is made for the radius of the ball, although it depends on the labels.
    """
    spectra = [one.posterior.spectrum() for one in found]
    first = spectra[0]
    values = first.density.nodes[: first.vectors.shape[1]]
    K = (first.vectors * values) @ first.vectors.mT
    fits, norms = [], []
    for one in spectra:
        y = one.y[:, :, :1]
        noise = INTERPOLATION * values.mean()
        alpha = first.load(y[0]).solve(1.0, noise)
        fitted = y - noise * alpha
        norms.append(float((alpha * fitted).sum().clamp(min=0).sqrt()))
        fits.append(2 * (y * fitted).sum(-1)[0] / y.abs().max())
    n, norm, margin = first.n, max(norms), 0.5
    sampled = pacbayes.rademacher_sampled(K, norm, draws=200).value
    trace = float(pacbayes.rademacher_trace(K, norm))
    radius = float(K.diagonal().max().sqrt())
    fat = float(pacbayes.fat_shattering_dimension(radius, norm, margin / 16))
    rows = []
    for f in fits:
        risk, error = (float((f <= at).double().mean()) for at in (margin, 0.0))
        row = {
            "rademacher": pacbayes.rademacher(risk, sampled, margin, n, delta),
            "rademacher_trace": pacbayes.rademacher(risk, trace, margin, n, delta),
            "fat_shattering": pacbayes.fat_shattering(risk, fat, n, delta),
            "vc": pacbayes.vc(error, len(values), n, delta),
        }
        rows.append({name: float(value.clamp(max=1.0)) for name, value in row.items()})
    return rows

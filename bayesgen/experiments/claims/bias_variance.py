"""Experiment: bias and variance of hard, flexible and averaged models over many data sets."""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from sklearn.ensemble import RandomForestRegressor
from torch import Tensor, nn

from bayesgen import networks, plots
from bayesgen._internal import checks
from bayesgen._internal.progress import ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.experiments.executor import Job, Values, sweep
from bayesgen.experiments.experiment import claim, experiment, provenance
from bayesgen.experiments.networks import seeded
from bayesgen.features import bases, priors
from bayesgen.models import Polynomial
from bayesgen.training import train_ensemble

FUNCTIONS = ("x² − x/2", "cos 3πx/2", "sin 4πx + x")
MODELS = (
    "degree 2, least squares",
    "degree 15, least squares",
    "degree 100, order-dependent prior",
    "one network",
    "ensemble of networks",
    "one tree",
    "forest",
)
SOFT, NETWORK, ENSEMBLE, TREE, FOREST = MODELS[2:]
HIDDEN, TREES, POINTS = 50, 50, 101
# Largest factor by which the soft model's error may exceed that of the better polynomial, and least
# factor by which an average must divide the error of one model.
SLACK, GAIN = 1.2, 1.2


class RegressionData(NamedTuple):
    """Repeated draws of the noise at fixed inputs: x (n, 1), y (R, n, 1), new x and f at them."""

    x: Tensor
    y: Tensor
    x_new: Tensor
    f_new: Tensor


@experiment(plot=plots.bias_variance, quick={"repetitions": 10, "members": 4, "epochs": 300})
@shows_progress
def bias_variance(
    *,
    n: int = 40,
    noise: float = 0.04,
    repetitions: int = 30,
    members: int = 10,
    epochs: int = 600,
    seed: int = 0,
    store: str | os.PathLike[str] | None = None,
    progress: ProgressOption = None,
    command: str | None = None,
) -> xr.Dataset:
    """Bias and variance of soft and averaged models against hard limits and single models.

    Seven models are fitted to many draws of the noise at the same inputs, for a simple, a moderate
    and a complex function: least squares of degree 2 and 15; a polynomial of degree 100 with prior
    variances γ⁻ʲ, whose γ, scale and noise variance have maximum evidence; one network with 50
    hidden units trained without regularisation, and the mean of several; one tree grown until its
    leaves are pure, and a forest of 50 trees on bootstrap samples. Different networks of an
    ensemble have different initial weights, and the variance includes these.

    Two parts of the claim fail here. On the complex function the soft polynomial has a larger
    variance than degree 15: the evidence can only choose a slow geometric decay, which leaves many
    orders free. And networks from different initial weights agree on such data in one dimension:
    their variance comes from the noise, which all members of an ensemble share, and averaging over
    initial weights does not reduce it. Forests gain from the average over bootstrap samples.

    Bias² is the mean over new inputs of (mean prediction − f)², and the variance is that of the
    predictions about their mean; their sum is the error. Both are computed with the unbiased
    estimates for a finite number of draws.

    The source states this in words; the functions and sizes are chosen for this study.

    Args:
        n: number of observations on [−1, 1].
        noise: noise variance.
        repetitions: number of draws of the noise, at least 2.
        members: number of networks of an ensemble, at least 2.
        epochs: epochs of training of the networks, with full batches and Adam.
        seed: seed of noise, initial weights and forests.
        store: folder for the results of single cells, so that an interrupted run continues.
        progress: called as progress(done, expected, what); True shows a progress bar.
        command: command to record in the result; None records this call.

    Returns:
        Dataset of dims (function, model): bias2, variance, error; and `soft_rate`, the median γ.

    Raises:
        ValueError: a number is out of range.

    Source: Wilson (2025), section 3; Geman et al. (1992).

    Example:
        One cell, with the errors of the polynomials for a quadratic function:

        >>> cell = polynomial_cell("x² − x/2", 30, 0.04, 10, 0)
        >>> bool(cell["error"][2] < 0.5 * cell["error"][1])
        True
    """
    counts = {
        "n": checks.whole("n", n, 20),
        "repetitions": checks.whole("repetitions", repetitions, 2),
        "members": checks.whole("members", members, 2),
        "epochs": checks.whole("epochs", epochs),
    }
    noise = checks.positive_number("noise", noise)
    seed = checks.seed(seed)
    common = (n, noise, repetitions, seed)
    jobs = []
    for name in FUNCTIONS:
        jobs += [
            Job("polynomials", polynomial_cell, (name, *common)),
            Job("networks", network_cell, (name, *common, members, epochs)),
            Job("forests", forest_cell, (name, *common)),
        ]
    cells = sweep(jobs, [job.arguments for job in jobs], store=store, progress=progress)
    rows = [cells[i : i + 3] for i in range(0, len(cells), 3)]
    words = {"bias2": "bias²", "variance": "variance", "error": "expected squared error"}
    variables: dict[str, Any] = {
        key: (
            ("function", "model"),
            np.array([np.concatenate([cell[key] for cell in row]) for row in rows]),
            {"units": "1", "long_name": long},
        )
        for key, long in words.items()
    }
    variables["soft_rate"] = ("function", [row[0]["rate"] for row in rows], {"units": "1"})
    result = xr.Dataset(
        variables,
        coords={"function": list(FUNCTIONS), "model": list(MODELS)},
        attrs={"title": "Bias and variance", "noise": noise, **counts},
    )
    result.attrs |= _claim(result)
    said = f"bias_variance({n=}, {noise=}, {repetitions=}, {members=}, {epochs=}, {seed=})"
    return result.assign_attrs(**provenance(command or said))


def draws(name: str, n: int, noise: float, repetitions: int, seed: int) -> RegressionData:
    """Observations of one of `FUNCTIONS` at n regular inputs, with repeated noise."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.linspace(-1, 1, n, dtype=torch.float64)[:, None]
    x_new = torch.linspace(-1, 1, POINTS, dtype=torch.float64)[:, None]
    f, f_new = (
        {
            FUNCTIONS[0]: u.square() - u / 2,
            FUNCTIONS[1]: torch.cos(1.5 * math.pi * u),
            FUNCTIONS[2]: torch.sin(4 * math.pi * u) + u,
        }[name]
        for u in (x, x_new)
    )
    error = torch.randn(repetitions, n, 1, generator=generator, dtype=torch.float64)
    return RegressionData(x, f + noise**0.5 * error, x_new, f_new)


def polynomial_cell(name: str, n: int, noise: float, repetitions: int, seed: int) -> Values:
    """Bias², variance and error of the three polynomials, (3,) each, and the median rate γ."""
    data = draws(name, n, noise, repetitions, seed)
    found = []
    for degree in (2, 15):
        features = bases.Polynomial(degree, kind="legendre", input_range=(-1, 1)).on(data.x)
        weights = torch.linalg.lstsq(features(data.x).expand(repetitions, -1, -1), data.y).solution
        found.append(features(data.x_new) @ weights)
    soft = Polynomial(
        100, priors.geometric(2.0), kind="legendre", input_range=(-1, 1), max_spectra=500
    )
    posterior = soft.fit(data.x, data.y)
    found.append(posterior.mean(data.x_new))
    parts = [decomposed(each[:, None, :, 0], data.f_new[:, 0])["one"] for each in found]
    return _table(parts) | {"rate": float(posterior.decay.median())}


def network_cell(
    name: str, n: int, noise: float, repetitions: int, seed: int, members: int, epochs: int
) -> Values:
    """Bias², variance and error of one network and of the mean of several, (2,) each."""
    data = draws(name, n, noise, repetitions, seed)
    count = repetitions * members
    nets = [seeded(seed + i, _network) for i in range(count)]
    y = data.y.repeat_interleave(members, 0)
    train_ensemble(
        nets, data.x, y, "gaussian", epochs=epochs, batch=None, optimiser="adam",
        learning_rate=0.05, seed=seed,
    )  # fmt: skip
    with torch.no_grad():
        outputs = torch.stack([net(data.x_new)[:, 0] for net in nets])
    parts = decomposed(outputs.reshape(repetitions, members, -1), data.f_new[:, 0])
    return _table([parts["one"], parts["mean"]])


def _network() -> nn.Module:
    """One hidden layer whose wide initial weights let it represent the complex function."""
    net = networks.MLP(1, (HIDDEN,), 1, activation="tanh").double()
    hidden: Any = net[1]
    with torch.no_grad():
        hidden.weight.mul_(10)
        hidden.bias.mul_(10)
    return net


def forest_cell(name: str, n: int, noise: float, repetitions: int, seed: int) -> Values:
    """Bias², variance and error of one tree and of a forest, (2,) each."""
    data = draws(name, n, noise, repetitions, seed)
    found = []
    for trees, bootstrap in ((1, False), (TREES, True)):
        fits = [
            RandomForestRegressor(trees, bootstrap=bootstrap, random_state=seed + i)
            .fit(data.x.numpy(), y.numpy())
            .predict(data.x_new.numpy())
            for i, y in enumerate(data.y[..., 0])
        ]
        outputs = torch.as_tensor(np.array(fits))
        found.append(decomposed(outputs[:, None], data.f_new[:, 0])["one"])
    return _table(found)


def decomposed(outputs: Tensor, f: Tensor) -> dict[str, tuple[float, float]]:
    """Bias² and variance of one member and of the mean of all members, averaged over inputs.

    With S² the variance over R draws, the squared distance of the mean from f overestimates the
    bias² by S²/R, which is subtracted.

    Args:
        outputs: predictions, (draws R, members, inputs).
        f: the true function, (inputs,).

    Returns:
        (bias², variance) of "one" (its variance includes that over members) and of the "mean".
    """
    count = len(outputs)
    mean = outputs.mean(1)
    gap = (mean.mean(0) - f).square().mean()
    between = mean.var(0).mean()
    bias2 = float(gap - between / count)
    total = float(between)
    members = outputs.shape[1]
    if members == 1:
        return {"one": (bias2, total), "mean": (bias2, total)}
    within = float(outputs.var(1).mean())
    # Var(mean of M members) = Var over draws + within/M, and that of one member has within itself.
    return {"one": (bias2, total + within * (1 - 1 / members)), "mean": (bias2, total)}


def _table(parts: list[tuple[float, float]]) -> Values:
    bias2, variance = np.array(parts).T
    return {"bias2": bias2, "variance": variance, "error": bias2 + variance}


def _claim(result: xr.Dataset) -> dict[str, str]:
    """Attributes with the source's claim and this result."""
    error, variance = result.error, result.variance
    low, high = (error.sel(model=name).values for name in MODELS[:2])
    soft = error.sel(model=SOFT).values
    least = np.minimum(np.minimum(low, high), soft)
    ratio = soft / np.minimum(low, high)
    worst = [float((values / least).max()) for values in (low, high, soft)]
    pairs = ((NETWORK, ENSEMBLE), (TREE, FOREST))
    falls = [variance.sel(model=a).values / variance.sel(model=b).values for a, b in pairs]
    gains = [error.sel(model=a).values / error.sel(model=b).values for a, b in pairs]
    hardest = result.isel(function=-1)
    found = (
        f"The error of the soft polynomial is {ratio.min():.2f} to {ratio.max():.2f} times that "
        f"of the better of degrees 2 and 15; in the worst of the functions, degree 2 has "
        f"{worst[0]:.1f} times the least error of the three, degree 15 {worst[1]:.1f} times and "
        f"the soft one {worst[2]:.1f} times. For {hardest.function.item()}, bias² and variance are "
        + "; ".join(
            f"{float(hardest.bias2.sel(model=name)):.2g} and "
            f"{float(hardest.variance.sel(model=name)):.2g} ({name})"
            for name in MODELS[:3]
        )
        + f". Averaging divides the variance by {falls[0].min():.1f} to {falls[0].max():.1f} "
        f"(networks) and {falls[1].min():.1f} to {falls[1].max():.1f} (trees), and the error by "
        f"{gains[0].min():.1f} to {gains[0].max():.1f} and {gains[1].min():.1f} to "
        f"{gains[1].max():.1f}."
    )
    held = [
        bool((ratio < SLACK).all()),
        *(bool((gain > GAIN).all()) for gain in gains),
    ]
    return claim(
        "Bias and variance need not be traded: a flexible model with a simplicity bias, and an "
        "ensemble of flexible models, have low bias and low variance.",
        found,
        "yes" if all(held) else "partly" if any(held) else "no",
    )

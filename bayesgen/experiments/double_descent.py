"""Experiment: double descent of linear models, with and without the ridge of most evidence."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from bayesgen import data as datasets, likelihoods, plots, verify
from bayesgen._internal import checks
from bayesgen._internal.progress import Progress, ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.experiments.experiment import claim, experiment, provenance
from bayesgen.experiments.least_squares import LeastSquares
from bayesgen.features.bases import RandomFeatures

# Numbers of columns of the source's notebook, and the constant of its effective dimension.
COLUMNS = tuple(range(5, 400, 2))
_NOTEBOOK = 0.2
# Activations of random features; cosines approximate an RBF kernel.
_ACTIVATIONS = {"relu": "random ReLU features", "cos": "random Fourier features (RBF)"}
# Random features per observation.
_SHARES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.25, 1.5, 2, 3, 5, 8)


@experiment(plot=plots.double_descent, quick={"seeds": 4, "draws": 2, "data": "digits"})
@shows_progress
def double_descent(
    columns: Sequence[int] = COLUMNS,
    *,
    n: int = 200,
    informative: int = 1000,
    seeds: int = 20,
    data: str | Sequence[str] = ("digits", "cifar10"),
    train: int = 200,
    draws: int = 5,
    seed: int = 0,
    data_dir: str | os.PathLike[str] | None = None,
    progress: ProgressOption = None,
    command: str | None = None,
) -> xr.Dataset:
    """Double descent of linear models, which the ridge of maximum evidence removes.

    This is figure 1 (g). Columns are y + N(0, 1) with y ~ N(0, I); columns beyond the first
    `informative` ones are N(0, 1). The weights are those of least squares of minimum norm, and, new
    here, those of the ridge σ²/s of maximum evidence. The figure's "effective dimension" is
    min(n, d) − Σ λ/(λ + 0.2) in the source's notebook: it counts directions that the ridge
    *damps*. It is recorded beside N_eff(XᵀX; α) = Σ λ/(λ + α), which never decreases with d,
    because the eigenvalues of XᵀX interlace, and beside the effective ranks r = Σλ/λ_max and
    R = (Σλ)²/Σλ² of Bartlett et al. (2020). The second part, also new, fits random features of
    images to their one-hot labels (Belkin et al. 2019).

    Args:
        columns: numbers of columns d.
        n: number of observations, and of test observations.
        informative: number of columns that depend on y.
        seeds: number of draws of the data.
        data: data set or data sets of the second part; none leaves it out.
        train: number of images to fit.
        draws: number of draws of the random features.
        seed: first seed.
        data_dir: folder with the images, for data sets other than the digits.
        progress: called as progress(done, expected, what); True shows a progress bar.
        command: command to record in the result; None records this call.

    Returns:
        Dataset of dims (d, seed): relative_error and mse of least squares, ridge_relative_error and
        ridge_mse, log_marginal_likelihood_per_observation in nats, effective_dimension,
        notebook_dimension, rank_ratio and rank_square; and of dims (data, activation, share, draw):
        feature_mse, feature_error, ridge_feature_mse, ridge_feature_error and
        feature_evidence_per_observation, where `share` is the number of features per observation.

    Raises:
        ValueError: a number is out of range, or a name unknown.
        RuntimeError: the batched evidence differs from that of `LinearModel`.

    Source: Wilson (2025), figure 1 (g) and its notebook; Belkin et al. (2019).

    Example:
        >>> result = double_descent([10, 40, 160], n=40, seeds=5, data=())
        >>> int(result.mse.median("seed").argmax("d"))
        1
    """
    checked, seed = checks.increasing("columns", columns), checks.seed(seed)
    n, seeds = checks.whole("n", n, 2), checks.whole("seeds", seeds)
    informative = checks.whole("informative", informative, 0)
    train, draws = checks.whole("train", train, 20), checks.whole("draws", draws)
    names = [data] if isinstance(data, str) else list(data)
    if len(set(names)) < len(names):
        raise ValueError(f"data must be different names, got {names}")
    for name in names:
        checks.one_of("data", name, datasets.names())
    report = progress or (lambda done, expected, what: None)
    expected = len(checked) + len(names) * len(_ACTIVATIONS)
    variables, check = _columns(checked, n, informative, seeds, seed, report, expected)
    coords: dict[str, Any] = {"d": checked, "seed": np.arange(seed, seed + seeds)}
    if names:
        parts: list[dict[str, np.ndarray]] = []
        for name in names:
            folder = None if name == "digits" else data_dir
            for activation, words in _ACTIVATIONS.items():
                report(len(checked) + len(parts), expected, f"{name}, {words}")
                parts.append(_features(name, folder, activation, train, draws, seed))
        shape = (len(names), len(_ACTIVATIONS), len(_SHARES), draws)
        for key in parts[0]:
            values = np.stack([part[key] for part in parts]).reshape(shape)
            variables[key] = (("data", "activation", "share", "draw"), values)
        coords |= {
            "data": names,
            "activation": list(_ACTIVATIONS.values()),
            "share": list(_SHARES),
            "draw": np.arange(draws),
        }
    result = xr.Dataset(variables, coords=coords)
    for key, (units, words) in _UNITS.items():
        if key in result:
            result[key].attrs = {"units": units, "long_name": words}
    result.attrs = {
        "title": "Double descent of linear models",
        "n": n,
        "informative": informative,
        "train": train,
        "check": str(check),
        **_claim(result, n),
        **provenance(command or f"double_descent({n=}, {seeds=}, data={names}, {draws=})"),
    }
    return result


_UNITS = {
    "relative_error": ("1", "‖Xw − y‖/‖y‖ on new data, least squares of minimum norm"),
    "mse": ("1", "mean square error on new data, least squares of minimum norm"),
    "ridge_relative_error": ("1", "‖Xw − y‖/‖y‖ on new data, ridge of maximum evidence"),
    "ridge_mse": ("1", "mean square error on new data, ridge of maximum evidence"),
    "log_marginal_likelihood_per_observation": ("nats", "maximal evidence per observation"),
    "effective_dimension": ("1", "N_eff(XᵀX; 1)"),
    "notebook_dimension": ("1", "min(n, d) − Σ λ/(λ + 0.2)"),
    "rank_ratio": ("1", "effective rank Σλ/λ_max"),
    "rank_square": ("1", "effective rank (Σλ)²/Σλ²"),
    "feature_mse": ("1", "mean square error of one-hot labels, least squares"),
    "feature_error": ("1", "share of wrong labels, least squares"),
    "ridge_feature_mse": ("1", "mean square error of one-hot labels, ridge"),
    "ridge_feature_error": ("1", "share of wrong labels, ridge"),
    "feature_evidence_per_observation": ("nats", "maximal evidence per observation"),
}


def _columns(
    columns: list[int],
    n: int,
    informative: int,
    seeds: int,
    seed: int,
    report: Progress,
    expected: int,
) -> tuple[dict[str, Any], verify.Check]:
    """Variables of dims (d, seed), and the check of one evidence."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(seeds, 2 * n, 1, generator=generator, dtype=torch.float64)
    X = torch.randn(seeds, 2 * n, columns[-1], generator=generator, dtype=torch.float64)
    X[..., :informative] += y
    y_new, y = y[:, n:], y[:, :n]
    tried = columns[seed % len(columns)]
    rows: list[list[Tensor]] = []
    check = None
    # XXᵀ of the first d columns is the sum over them, and XᵀX a part of that of all columns.
    outer = y.new_zeros(seeds, n, n)
    inner = X[:, :n, : n - 1].mT @ X[:, :n, : n - 1]
    before = 0
    for number, d in enumerate(columns):
        report(number, expected, f"{d} columns")
        train, new = X[:, :n, :d], X[:, n:, :d]
        if d < n:
            gram = inner[:, :d, :d]
        else:
            added = X[:, :n, before:d]
            outer = outer + added @ added.mT
            gram, before = outer, d
        model = LeastSquares(train, y, gram)
        ridge = model.ridge()
        if d == tried:
            check = model.check(ridge, seed % seeds)
        gaps = [(new @ model.weights(ratio) - y_new) for ratio in (0.0, ridge.ratio)]
        values = model.eigenvalues
        total = values.sum(-1)
        rows.append(
            [
                *(gap.norm(dim=(1, 2)) / y_new.norm(dim=(1, 2)) for gap in gaps),
                *(gap.square().mean((1, 2)) for gap in gaps),
                ridge.log_marginal_likelihood / n,
                model.effective_dimension(1.0),
                min(n, d) - model.effective_dimension(_NOTEBOOK),
                total / values[:, -1],
                total.square() / values.square().sum(-1),
            ]
        )
    assert check is not None
    check.require()
    names = list(_UNITS)[:9]
    names[1], names[2] = names[2], names[1]
    table = torch.stack([torch.stack(row) for row in rows]).numpy()
    return {name: (("d", "seed"), table[:, i]) for i, name in enumerate(names)}, check


def _features(
    name: str,
    data_dir: str | os.PathLike[str] | None,
    activation: str,
    train: int,
    draws: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Arrays (share, draw) of random features of one data set."""
    data = datasets.load(name, train=train, test=None, data_dir=data_dir, seed=seed)
    mean, sd = data.x_train.mean(0), data.x_train.std()
    x, new = ((part - mean) / sd for part in (data.x_train, data.x_test[:2000]))
    labels = data.y_test[:2000]
    targets = likelihoods.one_hot(data.y_train, data.num_classes, dtype=x.dtype)
    centre = targets.mean(0)
    codes = likelihoods.one_hot(labels, data.num_classes, dtype=x.dtype)
    lengthscale = float(torch.pdist(x).median()) if activation == "cos" else x.shape[1] ** 0.5
    most = round(max(_SHARES) * train)
    # Features of all widths are prefixes of one draw; their common size does not matter.
    bases = [
        RandomFeatures(most, lengthscale=lengthscale, activation=activation, seed=seed + draw)
        for draw in range(draws)
    ]
    functions = [basis.on(x) for basis in bases]
    Phi = torch.stack([features(x) for features in functions]) * most**0.5
    Phi_new = torch.stack([features(new) for features in functions]) * most**0.5
    y = (targets - centre).expand(draws, -1, -1)
    rows = []
    for share in _SHARES:
        d = max(1, round(share * train))
        model = LeastSquares(Phi[..., :d], y)
        ridge = model.ridge()
        row = []
        for ratio in (0.0, ridge.ratio):
            f = Phi_new[..., :d] @ model.weights(ratio) + centre
            row += [(f - codes).square().sum(-1).mean(-1)]
            row += [(f.argmax(-1) != labels).to(f).mean(-1)]
        rows.append(torch.stack([*row, ridge.log_marginal_likelihood / train]))
    model.check(ridge, 0).require()
    table = torch.stack(rows).numpy()
    return {key: table[:, i] for i, key in enumerate(list(_UNITS)[9:])}


def _claim(result: xr.Dataset, n: int) -> dict[str, str]:
    """Attributes with the paper's claim and this result."""
    middle = result.median("seed")
    peak = int(np.argmax(middle.mse.values))
    d = int(result.d[peak])
    last = middle.isel(d=-1)
    fall = float(middle.mse[peak] / middle.ridge_mse[peak])
    evidence = middle.log_marginal_likelihood_per_observation.values
    drop = float((np.maximum.accumulate(evidence) - evidence).max())
    error = middle.relative_error.values
    descends = (
        peak > 0
        and abs(d - n) <= 0.05 * n
        and error[peak] > 3 * max(error[:peak].min(), error[-1])
        and fall > 10
    )
    sizes = {
        key: (float(middle[key][peak]), float(last[key]))
        for key in ("notebook_dimension", "effective_dimension")
    }
    follows = [after < 0.8 * at for at, after in sizes.values()]
    found = (
        f"The relative error of least squares is {float(middle.relative_error[peak]):.2f} at its "
        f"peak at d = {d} and {float(last.relative_error):.3f} at d = {int(result.d[-1])}. The "
        f"ridge of maximum evidence divides the mean square error at the peak by {fall:,.0f}. The "
        f"evidence per observation rises from {evidence[0]:.2f} to {evidence[-1]:.2f} nats and is "
        f"never more than {drop:.3f} below its value at a smaller d. From the peak to the last d, "
        "min(n, d) − Σ λ/(λ + 0.2) goes from {:.2f} to {:.2f}, and N_eff(XᵀX; 1) from {:.0f} to "
        "{:.0f}.".format(*sizes["notebook_dimension"], *sizes["effective_dimension"])
    )
    if "feature_mse" in result:
        shown = result.median("draw").max("share")
        ratio = float((shown.feature_mse / shown.ridge_feature_mse).min())
        found += (
            " For random features of images, the highest error over all widths is at least "
            f"{ratio:,.0f} times that with the ridge."
        )
    return claim(
        "A linear model shows double descent without mysteries: the error peaks at d = n and falls "
        "again, and the effective dimension follows it.",
        found,
        "no" if not descends else "yes" if all(follows) else "partly",
    )

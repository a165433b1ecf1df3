"""Experiment: random weights that fit a few points generalise like those found by SGD."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from bayesgen import plots
from bayesgen._internal import checks
from bayesgen._internal.progress import ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.experiments.executor import Job, Values, sweep
from bayesgen.experiments.experiment import claim, experiment, provenance
from bayesgen.experiments.guess_problems import FAMILIES, PROBLEMS, GuessProblem, problem
from bayesgen.experiments.guesses import Guesser
from bayesgen.experiments.networks import seeded

MODELS = {"linear": ("linear", 1), "MLP": ("MLP", 16), "LeNet-like": ("LeNet-like", 4)}
# Epochs of SGD after which the networks are looked at, and its learning rate.
_LOOKS, _RATE = (1, 2, 4, 8, 16, 32, 64, 128), 0.01
# Bins of the normalised loss, and solutions of either kind that a bin must hold.
_BINS, _FEW = 8, 3
# Difference of test errors up to which solutions are alike.
_ALIKE = 0.02
# Offset of the seed of initial weights from that of guesses, and draws for each that is needed.
_APART, _SPARE = 1_000_003, 4


@experiment(
    plot=plots.guess_and_check,
    quick={"sizes": (2, 4, 8, 16), "guesses": 20_000, "solutions": 30, "draws": 1},
)
@shows_progress
def guess_and_check(
    *,
    problems: Sequence[str] = ("digits 0/1", "blobs"),
    models: Sequence[str] = ("linear", "MLP", "LeNet-like"),
    sizes: Sequence[int] = (2, 4, 8, 16, 32),
    guesses: int = 1_000_000,
    solutions: int = 200,
    draws: int = 5,
    seed: int = 0,
    store: str | os.PathLike[str] | None = None,
    progress: ProgressOption = None,
    command: str | None = None,
) -> xr.Dataset:
    """Test errors of random weights that fit a few points, beside those of SGD at the same loss.

    Weights are drawn from the uniform distribution on [−1, 1] until they classify all training
    points correctly. The share of draws that do so is the marginal likelihood of the 0–1
    likelihood, by its definition. SGD trains networks whose initial weights are other draws from
    the same distribution that do not fit yet; each is looked at several times, from the first
    epochs on, so that its solutions have training losses that guesses have too.

    Test errors at different training losses are not comparable, because SGD continues to raise the
    margin. As in the source, solutions are therefore matched on the training loss after
    normalisation: the mean logistic loss of scores divided by the product of the Frobenius norms of
    the layers and by the root mean square norm of the inputs. Both kinds are compared within
    quantile bins of that loss. Changed against the source: smaller images and networks; bins follow
    the data; blobs are added; SGD starts from the prior of the guesses.

    Args:
        problems: names in `PROBLEMS`; LeNet is for images only.
        models: names in `MODELS`.
        sizes: numbers of training points, even; half of them of each class.
        guesses: number of random networks for each model and set of points.
        solutions: number of trained networks. Up to five times as many guessed solutions are
            compared with them, because each trained network is looked at several times.
        draws: number of draws of the training points.
        seed: first seed.
        store: folder for the results of single cells, so that an interrupted run continues.
        progress: called as progress(done, expected, what); True shows a progress bar.
        command: command to record in the result; None records this call.

    Returns:
        Dataset of dims (problem, model, n, draw): accepted, share, share_low and share_high (95 %
        interval of Clopper & Pearson), log_marginal_likelihood in nats, guess_error and sgd_error
        (means of test errors, unmatched), matched_guess_error and matched_sgd_error (means over
        bins that hold both), fitted (share of trained networks that fit at the end) and rate
        (guesses per minute of wall time, which differs from run to run); and, with dim bin,
        bin_loss, guess_bin_error, sgd_bin_error, guess_bin_count and sgd_bin_count.

    Raises:
        ValueError: a name is unknown, or a number out of range.
        RuntimeError: the scores of networks run together differ from those of one by one.

    Source: Wilson (2025), section 5; Chiang et al. (2023), sections 3–4; Clopper & Pearson (1934).

    Example:
        >>> result = guess_and_check(problems=["blobs"], models=["linear"], sizes=[4], draws=1,
        ...                          guesses=2000, solutions=5)
        >>> bool((result.share_low < result.share).all())
        True
    """
    chosen = _chosen(problems, models, sizes)
    numbers = {"guesses": guesses, "solutions": solutions, "draws": draws}
    numbers = {name: checks.whole(name, number) for name, number in numbers.items()}
    checks.seed(seed)
    jobs, keys = [], []
    for name in chosen[0]:
        for model in chosen[1]:
            for n in chosen[2]:
                for draw in range(draws):
                    arguments = (name, model, n, seed + draw, guesses, solutions)
                    jobs.append(Job(f"{name.replace('/', ' and ')}, {model}, n = {n}, draw {draw}",
                                    _cell, arguments))  # fmt: skip
                    keys.append(arguments)
    cells = sweep(jobs, keys, store=store, progress=progress)
    shape = (*(len(each) for each in chosen), draws)
    variables: dict[str, Any] = {}
    for key, (units, words) in _UNITS.items():
        values = np.stack([cell[key] for cell in cells])
        dims = ("problem", "model", "n", "draw", "bin")[: 4 + values[0].ndim]
        values = values.reshape(*shape, *values.shape[1:])
        variables[key] = (dims, values, {"units": units, "long_name": words})
    result = xr.Dataset(
        variables,
        coords={
            "problem": chosen[0],
            "model": chosen[1],
            "n": chosen[2],
            "draw": range(seed, seed + draws),
            "bin": range(_BINS),
        },
    )
    words = ", ".join(f"{key}={value}" for key, value in numbers.items())
    result.attrs = {
        "title": "Guessed and trained solutions",
        **numbers,
        "seed": seed,
        **_claim(result.assign_attrs(numbers)),
        **provenance(
            command
            or f"guess_and_check(problems={chosen[0]}, models={chosen[1]}, sizes={chosen[2]}, "
            f"{words}, seed={seed})"
        ),
    }
    return result


_UNITS = {
    "accepted": ("1", "number of guesses that fit"),
    "share": ("1", "share of prior mass that fits"),
    "share_low": ("1", "lower end of the 95 % interval of the share"),
    "share_high": ("1", "upper end of the 95 % interval of the share"),
    "log_marginal_likelihood": ("nats", "evidence of the 0–1 likelihood, the log of the share"),
    "guess_error": ("1", "mean test error of guessed solutions"),
    "sgd_error": ("1", "mean test error of trained solutions at the end"),
    "matched_guess_error": ("1", "mean test error of guessed solutions, matched on the loss"),
    "matched_sgd_error": ("1", "mean test error of trained solutions, matched on the loss"),
    "fitted": ("1", "share of trained networks that fit at the end"),
    "rate": ("1/min", "guesses per minute of wall time"),
    "bin_loss": ("nats", "normalised training loss, mean of a bin"),
    "guess_bin_error": ("1", "mean test error of guessed solutions of a bin"),
    "sgd_bin_error": ("1", "mean test error of trained solutions of a bin"),
    "guess_bin_count": ("1", "number of guessed solutions of a bin"),
    "sgd_bin_count": ("1", "number of trained solutions of a bin"),
}
_BINNED = tuple(name for name in _UNITS if "bin" in name)


def _chosen(
    problems: Sequence[str], models: Sequence[str], sizes: Sequence[int]
) -> tuple[list[str], list[str], list[int]]:
    """The checked lists of names and sizes."""
    counts = checks.increasing("sizes", sizes, 2)
    if any(n % 2 for n in counts):
        raise ValueError(f"sizes must be even numbers, got {counts}")
    return (
        checks.names("problems", problems, tuple(PROBLEMS)),
        checks.names("models", models, tuple(MODELS)),
        counts,
    )


class Solutions(NamedTuple):
    """Normalised training losses, in nats, and test errors of some solutions, (k,) each."""

    loss: Tensor
    error: Tensor


@torch.no_grad()
def _scored(guesser: Guesser, theta: Tensor, points: GuessProblem) -> Solutions:
    if not len(theta):
        return Solutions(torch.empty(0).double(), torch.empty(0).double())
    wrong = (guesser.scores(theta, points.x_test) > 0) != points.y_test.bool()
    return Solutions(guesser.normalised_loss(theta, points.x, points.y), wrong.double().mean(1))


def _trained(
    guesser: Guesser, points: GuessProblem, count: int, seed: int
) -> tuple[Solutions, Solutions, float]:
    """Solutions of SGD at all looks and at the last one, and the share that fits at the end."""
    # Initial weights are other draws than the guesses; those that fit already are left out, which
    # would be guesses and no solutions of SGD.
    generator = torch.Generator().manual_seed(seed + _APART)
    drawn = guesser.draw(_SPARE * count, guesser.size, generator)
    with torch.no_grad():
        fits = ((guesser.scores(drawn, points.x) > 0) == points.y.bool()).all(1)
    start = drawn[~fits][:count]
    batch = max(1, len(points.y) // 2)
    every = []
    for theta in guesser.descend(
        start, points.x, points.y, epochs=_LOOKS, learning_rate=_RATE, batch=batch, seed=seed
    ):
        with torch.no_grad():
            fits = ((guesser.scores(theta, points.x) > 0) == points.y.bool()).all(1)
        every.append(_scored(guesser, theta[fits], points))
    together = Solutions(*(torch.cat(parts) for parts in zip(*every, strict=True)))
    return together, every[-1], float(fits.double().mean())


def matched(guessed: Solutions, trained: Solutions) -> dict[str, Any]:
    """Mean test errors of two sets of solutions in bins of the training loss.

    Bins are quantiles of the losses of both sets together. The matched errors are means over the
    bins that hold at least three solutions of each set, weighted by the smaller number of the two;
    they are not a number where there is no such bin.

    Args:
        guessed, trained: the two sets.

    Returns:
        matched_guess_error, matched_sgd_error, and arrays (bin,) of means and counts.

    Example:
        >>> loss = torch.linspace(0, 1, 40, dtype=torch.float64)
        >>> found = matched(Solutions(loss, loss / 2), Solutions(loss[:20], loss[:20] / 2))
        >>> abs(found["matched_guess_error"] - found["matched_sgd_error"]) < 0.01
        True
    """
    table = dict(zip(_BINNED, np.full((len(_BINNED), _BINS), np.nan), strict=True))
    both = torch.cat([guessed.loss, trained.loss])
    table["guess_bin_count"][:] = table["sgd_bin_count"][:] = 0
    if len(both):
        edges = both.quantile(torch.linspace(0, 1, _BINS + 1, dtype=torch.float64))[1:-1]
        where = torch.bucketize(both, edges)
        for b in range(_BINS):
            if (where == b).any():
                table["bin_loss"][b] = both[where == b].mean()
        for name, each in (("guess", guessed), ("sgd", trained)):
            own = torch.bucketize(each.loss, edges)
            for b in range(_BINS):
                errors = each.error[own == b]
                table[f"{name}_bin_count"][b] = len(errors)
                if len(errors):
                    table[f"{name}_bin_error"][b] = errors.mean()
    weight = np.minimum(table["guess_bin_count"], table["sgd_bin_count"])
    weight[weight < _FEW] = 0
    found: dict[str, Any] = dict(table)
    for name in ("guess", "sgd"):
        mean = np.nan
        if weight.sum():
            used = weight > 0
            mean = float(np.average(table[f"{name}_bin_error"][used], weights=weight[used]))
        found[f"matched_{name}_error"] = mean
    return found


def _cell(name: str, model: str, n: int, seed: int, guesses: int, solutions: int) -> Values:
    """Values of one model on one draw of one problem; not numbers where the model has no such."""
    points = problem(name, n, seed)
    family, width = MODELS[model]
    net = seeded(seed, lambda: FAMILIES[family](width, points.x.shape[1]) or nn.Identity())
    if isinstance(net, nn.Identity):
        empty = {key: np.full(_BINS, np.nan) for key in _BINNED}
        return {key: empty.get(key, np.nan) for key in _UNITS}
    guesser = Guesser(net)
    start = time.perf_counter()
    share, theta = guesser.guess(points.x, points.y, guesses, seed=seed, keep=solutions * 5)
    minutes = (time.perf_counter() - start) / 60
    guessed = _scored(guesser, theta, points)
    trained, last, fitted = _trained(guesser, points, solutions, seed)
    low, high = share.interval()
    return {
        "accepted": float(share.accepted),
        "share": share.value,
        "share_low": low,
        "share_high": high,
        "log_marginal_likelihood": share.log_marginal_likelihood,
        "guess_error": float(guessed.error.mean()),
        "sgd_error": float(last.error.mean()),
        "fitted": fitted,
        "rate": guesses / minutes,
        **matched(guessed, trained),
    }


def _claim(result: xr.Dataset) -> dict[str, str]:
    """Attributes with the paper's claim and this result."""
    gap = result.guess_error - result.sgd_error
    pairs = result.matched_guess_error - result.matched_sgd_error
    plain, own = float(gap.mean()), float(pairs.mean())
    cells = int(pairs.notnull().sum())
    known = int(result.share.notnull().sum())
    worst = float(abs(pairs.mean("draw")).max())
    paper = (
        "Random weights that happen to fit the training data generalise like those that SGD finds: "
        "generalisation is due to the architecture's bias, not to the optimiser's."
    )
    if not cells:
        found = f"No guess of {result.guesses:,} fits at a loss that SGD has too."
        return claim(paper, found, "no")
    rate = result.rate.median(("problem", "n", "draw"))
    rates = ", ".join(
        f"{float(rate.sel(model=model)) / 1e6:.1f} million ({model})" for model in rate.model.values
    )
    found = (
        f"Guessed solutions have a mean test error of {float(result.guess_error.mean()):.3f}, "
        f"where chance has 0.5, and exceed trained ones by {plain:.3f} unmatched and by {own:.3f} "
        f"at the same normalised training loss (largest difference of a problem, model and n "
        f"{worst:.3f}; {cells} of {known} cells have common losses). The share of prior mass that "
        f"fits is between {float(result.share.min()):.2g} and {float(result.share.max()):.2g}. "
        f"Guesses per minute: {rates}."
    )
    alike = abs(own) <= _ALIKE and worst <= 3 * _ALIKE
    closer = abs(own) <= max(_ALIKE, 0.5 * abs(plain))
    return claim(
        paper,
        found,
        "yes" if alike else "partly" if closer else "no",
    )

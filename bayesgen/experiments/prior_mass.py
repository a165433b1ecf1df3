"""Experiment: the share of prior mass on networks that fit, against their width."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from bayesgen import plots
from bayesgen._internal import checks
from bayesgen._internal.progress import ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.experiments.executor import Job, Values, sweep
from bayesgen.experiments.experiment import claim, experiment, provenance
from bayesgen.experiments.guess_problems import FAMILIES, PROBLEMS, problem
from bayesgen.experiments.guesses import Guesser, Share
from bayesgen.experiments.networks import seeded

LABELS = ("true", "random")
_GROWING = ("MLP", "LeNet-like")
# Guessed solutions whose test errors are computed, and the error up to which one generalises.
_KEPT, GOOD = 1000, 0.1
# Factor by which the share that fits and generalises must rise, beyond the luck of sampling.
_MORE = 1.25


@experiment(
    plot=plots.prior_mass,
    quick={"widths": (1, 2, 4, 8, 16), "guesses": 20_000, "draws": 3},
)
@shows_progress
def prior_mass(
    *,
    problems: Sequence[str] = ("digits 0/1", "blobs"),
    widths: Sequence[int] = (1, 2, 4, 8, 16, 32, 64),
    n: int = 8,
    guesses: int = 200_000,
    draws: int = 10,
    seed: int = 0,
    store: str | os.PathLike[str] | None = None,
    progress: ProgressOption = None,
    command: str | None = None,
) -> xr.Dataset:
    """Share of prior mass on networks that fit, and on those that generalise, against width.

    This is the measured form of figure 6, which is a sketch. Weights are drawn from the uniform
    distribution on [−1, 1]. The share of draws that classify all training points correctly is the
    marginal likelihood of the 0–1 likelihood. The shares of all 2ⁿ labellings add to one, so that
    an architecture can put more mass on true labels only if it puts less on others; balanced random
    labels show this. A model that prefers no labelling has the share 2⁻ⁿ.

    Args:
        problems: names in `guess_problems.PROBLEMS`; LeNet is for images only.
        widths: numbers of hidden units, or of channels of the first convolution.
        n: number of training points, even; half of them of each class.
        guesses: number of random networks for each width and set of points.
        draws: number of draws of the training points and of random labels.
        seed: first seed.
        store: folder for the results of single cells, so that an interrupted run continues.
        progress: called as progress(done, expected, what); True shows a progress bar.
        command: command to record in the result; None records this call.

    Returns:
        Dataset of dims (problem, family, width, draw): accepted (…, label), parameters, good (share
        of the solutions of true labels whose test error is at most 0.1) and error (their mean test
        error); and of dims (problem, family, width, label): share, share_low and share_high (95 %
        interval of Clopper & Pearson, of all draws together) and log_marginal_likelihood, in nats,
        of the mean share. For one draw, the evidence is the log of its share.

    Raises:
        ValueError: a name is unknown, or a number out of range.
        RuntimeError: the scores of networks run together differ from those of one by one.

    Source: Wilson (2025), figure 6; Chiang et al. (2023); Clopper & Pearson (1934).

    Example:
        >>> result = prior_mass(problems=["blobs"], widths=[1, 4], n=2, guesses=500, draws=1)
        >>> result.share.sel(family="MLP").shape
        (1, 2, 2)
    """
    problems = checks.names("problems", problems, tuple(PROBLEMS))
    sizes = checks.increasing("widths", widths, count=2)
    if checks.whole("n", n, 2) % 2:
        raise ValueError(f"n must be even, got {n}")
    numbers = {
        "n": n,
        "guesses": checks.whole("guesses", guesses),
        "draws": checks.whole("draws", draws),
        "seed": checks.seed(seed),
    }
    keys = [
        (name, family, width, n, seed + draw, guesses)
        for name in problems for family in _GROWING for width in sizes for draw in range(draws)
    ]  # fmt: skip
    jobs = [
        Job(f"{key[0].replace('/', ' and ')}, {key[1]}, width {key[2]}, draw {key[4]}", _cell, key)
        for key in keys
    ]
    cells = sweep(jobs, keys, store=store, progress=progress)
    shape = (len(problems), len(_GROWING), len(sizes), draws)
    dims = ("problem", "family", "width", "draw", "label")
    variables: dict[str, Any] = {}
    for key, words in _WORDS.items():
        values = np.stack([cell[key] for cell in cells])
        values = values.reshape(*shape, *values.shape[1:])
        variables[key] = (dims[: values.ndim], values, {"units": "1", "long_name": words})
    result = xr.Dataset(
        variables,
        coords={"problem": list(problems), "family": list(_GROWING), "width": sizes,
                "label": list(LABELS), "draw": range(seed, seed + draws)},
    )  # fmt: skip
    _add_shares(result, guesses * draws)
    words = ", ".join(f"{key}={value}" for key, value in numbers.items())
    result.attrs = {
        "title": "Prior mass on networks that fit",
        **numbers,
        **_claim(result, n),
        **provenance(command or f"prior_mass(problems={problems}, widths={sizes}, {words})"),
    }
    return result


_WORDS = {
    "accepted": "number of guesses that fit",
    "parameters": "number of weights",
    "good": f"share of the solutions of true labels with a test error up to {GOOD}",
    "error": "mean test error of the solutions of true labels",
}


def _cell(name: str, family: str, width: int, n: int, seed: int, guesses: int) -> Values:
    """Values of one family and width on one draw; not numbers where it takes no such inputs."""
    points = problem(name, n, seed)
    net = seeded(seed, lambda: FAMILIES[family](width, points.x.shape[1]) or nn.Identity())
    if isinstance(net, nn.Identity):
        return {key: np.full(2, np.nan) if key == "accepted" else np.nan for key in _WORDS}
    rng = np.random.default_rng((seed, n, 1))
    other = points.y[torch.from_numpy(rng.permutation(n))].bool()
    labels = torch.stack([points.y.bool(), other])
    guesser = Guesser(net)
    accepted, kept = np.zeros(2), list[torch.Tensor]()
    for theta, classes in guesser.batches(points.x, guesses, seed=seed):
        good = (classes[:, None] == labels).all(2)
        accepted += good.sum(0).numpy()
        kept.append(theta[good[:, 0]][:_KEPT].clone())
    solutions = torch.cat(kept)[:_KEPT]
    error = np.nan
    good_share = np.nan
    if len(solutions):
        with torch.no_grad():
            wrong = (guesser.scores(solutions, points.x_test) > 0) != points.y_test.bool()
        errors = wrong.double().mean(1)
        error, good_share = float(errors.mean()), float((errors <= GOOD).double().mean())
    return {
        "accepted": accepted,
        "parameters": float(guesser.size),
        "good": good_share,
        "error": error,
    }


def _add_shares(result: xr.Dataset, guesses: int) -> None:
    """Add the shares of all draws together, with their intervals and evidences."""
    total = result.accepted.sum("draw", skipna=False)
    table = np.full((4, *total.shape), np.nan)
    for where, count in np.ndenumerate(total.values):
        if np.isfinite(count):
            share = Share(int(count), guesses)
            table[(slice(None), *where)] = (
                share.value, *share.interval(), share.log_marginal_likelihood
            )  # fmt: skip
    for name, values, (units, words) in zip(_SHARES, table, _SHARES.values(), strict=True):
        result[name] = (total.dims, values, {"units": units, "long_name": words})


_SHARES = {
    "share": ("1", "share of prior mass that fits, mean over draws"),
    "share_low": ("1", "lower end of the 95 % interval of the share"),
    "share_high": ("1", "upper end of the 95 % interval of the share"),
    "log_marginal_likelihood": ("nats", "log of the mean share"),
}


def _claim(result: xr.Dataset, n: int) -> dict[str, str]:
    """Attributes with the paper's claim and this result."""
    parts, rises, better = [], [], []
    for name in result.problem.values:
        for family in result.family.values:
            one = result.sel(problem=name, family=family)
            first, last = (one.sel(label="true").isel(width=i) for i in (0, -1))
            if not np.isfinite(float(first.share)):
                continue
            accepted = one.accepted.sel(label="true")
            fit = accepted.sum("draw")
            # Of all draws together: what fits, and what fits and generalises.
            good = ((accepted * one.good.fillna(0.0)).sum("draw") / fit.clip(min=1)).values
            both = (one.share.sel(label="true") * good).values
            other = one.share.sel(label="random").values
            parts.append(
                f"{family} on {name}: from width {int(first.width)} to {int(last.width)} the share "
                f"that fits goes from {float(first.share):.3g} to {float(last.share):.3g} (random "
                f"labels: {other[0]:.2g} to {other[-1]:.2g}), and the share that fits and has a "
                f"test error up to {GOOD} from {both[0]:.2g} to {both[-1]:.2g}, which is "
                f"{good[0]:.0%} and {good[-1]:.0%} of what fits"
            )
            rises.append(bool(last.share_low > first.share_high))
            better.append(bool(both[-1] > _MORE * both[0]))
    all_rise, all_better = all(rises), all(better)
    return claim(
        "In larger models, solutions that fit and generalise occupy more of the prior mass.",
        ". ".join(parts) + f". The uniform share is 2⁻ⁿ = {2.0**-n:.2g}.",
        "yes" if all_rise and all_better and parts else "partly" if any(better) else "no",
    )

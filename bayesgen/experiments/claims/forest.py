"""Experiment: double descent of random forests, from the leaves of one tree to many trees."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from sklearn.datasets import make_friedman1
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from bayesgen import data as datasets, plots
from bayesgen._internal import checks
from bayesgen._internal.progress import ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.experiments.executor import Job, Values, sweep
from bayesgen.experiments.experiment import claim, experiment, provenance

LEAVES = (2, 3, 5, 10, 20, 40, 80, 160, 320, 640, 1280)
TREES = (1, 2, 3, 5, 10, 20, 50)
TASKS = ("digits", "digits, 20% of labels redrawn", "Friedman's function, noise")
_FRIEDMAN_NOISE_SD, _NOISY = 3.0, 0.2
# Digits of scikit-learn for training and for tests.
_DIGITS, _DIGITS_TEST = 1400, 397
# Factors by which the error must rise to a peak and fall behind it.
RISE, FALL = 1.05, 1.05


@experiment(plot=plots.forests, quick={"seeds": 3})
@shows_progress
def random_forests(
    *,
    n: int = 600,
    test: int = 1000,
    leaves: Sequence[int] = LEAVES,
    trees: Sequence[int] = TREES,
    seeds: int = 10,
    seed: int = 0,
    store: str | os.PathLike[str] | None = None,
    progress: ProgressOption = None,
    command: str | None = None,
) -> xr.Dataset:
    """Test error of one tree against its leaves until it interpolates, then against trees.

    As in the source, the complexity of the model grows in two stages: first the largest number of
    leaves of a single tree, then the number of fully grown trees that are averaged. The trees see
    all data (no bootstrap) and try a random part of the inputs at each split (√d for digits, and a
    third for regression). Belkin et al. use MNIST and the squared loss of one-hot labels; here the
    data are scikit-learn's digits, with and without redrawn labels, and Friedman's regression
    function with noise of standard deviation 3. The error is the share of wrong labels (against
    clean ones), or the mean square error against the function without noise, relative to its
    variance.

    A peak needs a rise of the error by 5% while the single tree grows, and a fall by 5% from the
    peak to the largest forest. With clean labels no rise is expected: a tree that interpolates
    clean labels is not worse than a smaller one.

    Args:
        n: number of training data.
        test: number of test data; 397 digits, where it is larger.
        leaves: largest numbers of leaves of one tree, increasing.
        trees: numbers of trees with as many leaves as they need, increasing, from 1.
        seeds: number of draws of data and trees.
        seed: first seed.
        store: folder for the results of single cells, so that an interrupted run continues.
        progress: called as progress(done, expected, what); True shows a progress bar.
        command: command to record in the result; None records this call.

    Returns:
        Dataset with test_error and train_error (task, step, seed); for each step, its leaves (of
        one tree; 0 for no limit) and trees.

    Raises:
        ValueError: a number is out of range; leaves or trees do not increase.

    Source: Belkin et al. (2019), figure 4; Wilson (2025), section 5.

    Example:
        >>> cell = forest_curve("Friedman's function, noise", 100, 200, (2, 100), (1, 20), 0)
        >>> len(cell["test"]), bool(cell["test"][-1] < cell["test"][-2])
        (4, True)
    """
    n, test = checks.whole("n", n, 20), checks.whole("test", test, 10)
    stages = []
    for name, values, least in (("leaves", leaves, 2), ("trees", trees, 1)):
        stages.append(tuple(checks.increasing(name, values, least)))
    if stages[1][0] != 1 or len(stages[1]) < 2:
        raise ValueError(
            f"trees must start with 1, the tree that interpolates, and go on, got {stages[1]}"
        )
    if n > _DIGITS:
        raise ValueError(f"n must be at most {_DIGITS}, the number of digits, got {n}")
    seeds, seed = checks.whole("seeds", seeds), checks.seed(seed)
    numbers = range(seed, seed + seeds)
    jobs = [
        Job("forest", forest_curve, (task, n, test, *stages, s)) for task in TASKS for s in numbers
    ]
    cells = sweep(jobs, [job.arguments for job in jobs], store=store, progress=progress)
    steps = len(stages[0]) + len(stages[1])
    words = {"test": "test error", "train": "training error"}
    result = xr.Dataset(
        {
            f"{key}_error": (
                ("task", "seed", "step"),
                np.array([cell[key] for cell in cells]).reshape(len(TASKS), seeds, steps),
                {"units": "1", "long_name": long},
            )
            for key, long in words.items()
        },
        coords={
            "task": list(TASKS),
            "seed": list(numbers),
            "leaves": ("step", [*stages[0], *[0] * len(stages[1])]),
            "trees": ("step", [*[1] * len(stages[0]), *stages[1]]),
        },
        attrs={"title": "Random forests past interpolation", "n": n},
    )
    result.attrs |= _claim(result)
    first = f"{n=}, {test=}, leaves={stages[0]}, trees={stages[1]}"
    said = f"random_forests({first}, {seeds=}, {seed=})"
    return result.assign_attrs(**provenance(command or said))


def forest_curve(
    task: str, n: int, test: int, leaves: tuple[int, ...], trees: tuple[int, ...], seed: int
) -> Values:
    """Errors of one tree for each number of leaves, and of forests for each number of trees.

    Returns:
        test, train: errors, (steps,).
    """
    x, y, x_new, y_new = _data(task, n, test, seed)
    regression = task == TASKS[2]
    kind: Any = RandomForestRegressor if regression else RandomForestClassifier
    parts = 1 / 3 if regression else "sqrt"

    def errors(count: int, most: int | None) -> tuple[float, float]:
        forest = kind(
            count, max_leaf_nodes=most, max_features=parts, bootstrap=False, random_state=seed
        ).fit(x, y)
        out, fitted = forest.predict(x_new), forest.predict(x)
        if regression:
            spread = float(y_new.var())
            return ((out - y_new) ** 2).mean() / spread, ((fitted - y) ** 2).mean() / spread
        return (out != y_new).mean(), (fitted != y).mean()

    found = [errors(1, most) for most in leaves] + [errors(count, None) for count in trees]
    table = np.array(found, dtype=np.float64)
    return {"test": table[:, 0], "train": table[:, 1]}


def _data(task: str, n: int, test: int, seed: int) -> tuple[np.ndarray, ...]:
    """Training inputs and targets, and test inputs with targets without noise."""
    if task == TASKS[2]:
        x, f = make_friedman1(n + test, noise=0.0, random_state=seed)
        noise = np.random.default_rng(seed).normal(0, _FRIEDMAN_NOISE_SD, n)
        return x[:n], f[:n] + noise, x[n:], f[n:]
    data = datasets.load("digits", train=n, test=min(test, _DIGITS_TEST), seed=seed)
    labels = data.y_train
    if task == TASKS[1]:
        labels, _ = datasets.corrupt_labels(labels, _NOISY, num_classes=10, seed=seed)
    return tuple(part.numpy() for part in (data.x_train, labels, data.x_test, data.y_test))


def peaks(result: xr.Dataset) -> dict[str, tuple[float, float]]:
    """For each task, the error at its peak divided by the smallest before it, and by the last.

    The peak is the largest mean error of one tree after its minimum, so that the high error of
    trees with few leaves is not taken for it.

    Args:
        result: result of `random_forests`.
    """
    found = {}
    mean = result.test_error.mean("seed")
    single = (result.trees == 1).values
    for task in result.task.values:
        values = mean.sel(task=task).values
        one = values[single]
        lowest = int(one.argmin())
        top = float(one[lowest:].max())
        found[str(task)] = (top / float(one[lowest]), top / float(values[-1]))
    return found


def _claim(result: xr.Dataset) -> dict[str, str]:
    """Attributes with the sources' claim and this result."""
    found = peaks(result)
    shown = {task: rise > RISE and fall > FALL for task, (rise, fall) in found.items()}
    parts = [
        f"{task}: the error grows {rise:.2f}-fold from its minimum over the leaves of one tree, "
        f"and the largest forest divides it by {fall:.2f}"
        for task, (rise, fall) in found.items()
    ]
    count = sum(shown.values())
    return claim(
        "Random forests show double descent: the error of one tree rises as it comes to "
        "interpolate, and falls again as interpolating trees are averaged.",
        f"A peak appears in {count} of {len(shown)} tasks. " + "; ".join(parts) + ".",
        "yes" if count == len(shown) else "partly" if count else "no",
    )

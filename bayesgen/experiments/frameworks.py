"""Experiment: five generalisation bounds of one model class on real and on random labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from bayesgen import data as datasets, plots
from bayesgen._internal import checks
from bayesgen._internal.progress import ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.data.corruption import corrupt_labels
from bayesgen.data.dataset import Dataset
from bayesgen.experiments import framework_bounds as five
from bayesgen.experiments.corruption import grid, loaded
from bayesgen.experiments.experiment import claim, experiment, provenance
from bayesgen.experiments.framework_bounds import FITTED, FRAMEWORKS, NORMS, Framework
from bayesgen.experiments.networks import images
from bayesgen.features import bases

# A framework passes if its bound on real labels is below guessing by this margin for every seed.
BELOW = 0.05
# Least number of training points.
_LEAST = 20
LABELS = ("real", "random")
_VARIABLES = {
    "risk": ("1", "empirical risk in the bound: 0–1, margin or Gibbs risk"),
    "complexity": ("1", "what the bound adds to the empirical risk"),
    "bound": ("1", "bound of the true 0–1 risk, not clipped to 1"),
    "test_error": ("1", "error of the bound's hypothesis on test points, labelled likewise"),
    "fit_error": ("1", "smallest training error of what the framework was applied to"),
    "fit_bound": ("1", "bound of a hypothesis with a training error up to 0.01"),
    "capacity": ("nats, bits or 1", "KL(Q‖P), bits of code, R̂, or a dimension"),
    "own_bound": ("1", "bound of the best ball for these labels, with the payment for the choice"),
}
_PAPER = (
    "PAC-Bayes and countable-hypothesis bounds can describe the generalisation of flexible models, "
    "as they depend on the hypothesis found; Rademacher complexity, VC dimension and "
    "fat-shattering dimension depend on the class, and are vacuous for one that fits random labels."
)


@experiment(
    plot=plots.frameworks,
    quick={
        "data": "digits",
        "groups": (tuple(range(0, 10, 2)), tuple(range(1, 10, 2))),
        "features": "relu",
        "seeds": 2,
        "train": 1000,
    },
)
@shows_progress
def frameworks(
    data: str | Dataset = "cifar10",
    *,
    groups: Sequence[Sequence[int]] | None = ((0,), (1,)),
    features: str = "convolutional",
    width: int | None = None,
    seeds: int | Sequence[int] = 2,
    train: int | None = 3000,
    test: int | None = None,
    norms: Sequence[float] = NORMS,
    margin: float = 0.5,
    delta: float = 0.05,
    data_dir: str | os.PathLike[str] | None = None,
    progress: ProgressOption = None,
    command: str | None = None,
) -> xr.Dataset:
    """Five generalisation bounds of one model class, on real and on random labels.

    Table 1 of the source compares PAC-Bayes, countable hypotheses, Rademacher complexity, VC
    dimension and fat shattering in words. Here they are numbers, for linear classifiers
    sign(wᵀφ(x)) on random features that are stated before the data. φ has length one and more
    entries than there are training points, so that some w fits any labels. Random labels are
    redrawn uniformly, for training and test points, so that the true risk of every classifier on
    them is ½. Each bound holds with probability 1 − δ.

    The VC dimension is that of all w. Rademacher complexity and fat shattering are those of the
    smallest ball ‖w‖ ≤ B, with B from a grid stated before the data, that contains interpolants of
    both label sets; δ is divided by the size of the grid. These three bounds are for the
    interpolant. PAC-Bayes is for a Gaussian posterior, tuned to the bound among priors N(0, sI),
    and countable hypotheses for the best of a few coded w, paid for; so both may give up a part of
    the fit for a lower bound. `fit_bound` is the bound of a posterior or code that fits the labels
    up to an error of 0.01, and is never below `bound` by more than the tuning's precision.
    `own_bound` shows what the norm-based bounds become where each label set may choose its own
    ball and ridge.

    A framework passes Zhang's test if, for every seed,

    1. what it is applied to fits both label sets: `fit_error` ≤ 0.01;
    2. its bound on the real labels is at most guessing − 0.05, with guessing the share of the
       rarer class among the training labels;
    3. its bound on the random labels is at least ½, the true risk of every classifier.

    Args:
        data: a name for `bayesgen.data.load`, or a `Dataset`.
        groups: two classes, each a group of the data's classes; see `bayesgen.data.merge`. None
            takes data of two classes as they are.
        features: "relu", random ReLU features of the pixels, or "convolutional", random
            convolutional features of square images.
        width: number d of "relu" features or number of filters; None for about 2n features and for
            about 1.2n convolutional ones.
        seeds: number of seeds, or the seeds, of the features, the points and the random labels.
        train, test: number of points of the groups to draw for each seed; None keeps all.
        norms: norms B stated before the data, increasing.
        margin: margin γ stated before the data, below 1, the value that interpolants take.
        delta: δ of each bound.
        data_dir: for `bayesgen.data.load`, where data is a name.
        progress: called as progress(done, expected, what); True shows a progress bar.
        command: command to record in the result; None records this call.

    Returns:
        Dataset of dims (framework, labels, seed) with risk, complexity, bound, test_error,
        fit_error, fit_bound, capacity and own_bound; guessing (labels, seed), norm (seed), the
        radius B of the common ball, and passes (framework). The attribute `table` is the table in
        Markdown.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range; there are not two
            classes, fewer than 20 training points, or fewer features than training points.

    Source: Wilson (2025), table 1 and section 3; Zhang et al. (2017) for random labels.

    Example:
        >>> result = frameworks(
        ...     "digits", groups=((0,), (1,)), features="relu", seeds=1, train=100)
        >>> bool(result.bound.sel(labels="random").min() >= 0.5)
        True
    """
    checks.one_of("features", features, ("relu", "convolutional"))
    _, numbers = grid(None, seeds, "uniform")
    balls = _norms(norms)
    if not checks.positive_number("margin", margin) < 1:
        raise ValueError(f"margin must be below 1, the value of an interpolant, got {margin}")
    if not 0 < checks.share("delta", delta) < 1:
        raise ValueError(f"delta must lie in (0, 1), got {delta}")
    every = _two_classes(loaded(data, data_dir=data_dir), groups)
    found, radii, guesses, sizes = [], [], [], (0, 0, 0)
    for done, seed in enumerate(numbers):
        if progress is not None:
            progress(done, len(numbers), f"seed {seed}")
        points = datasets.subset(every, train, test, seed=seed)
        phi, phi_test = mapped(points, features, width, seed)
        sizes = len(phi), len(phi_test), phi.shape[1]
        labels, test_labels = _labels(points, seed)
        rows, norm = bounds_of(phi, labels, balls, margin, delta, seed)
        found.append(
            [
                [
                    (one, one.error(phi_test, y))
                    for one, y in zip(by_labels, test_labels, strict=True)
                ]
                for by_labels in rows
            ]
        )
        radii.append(norm)
        share = float(labels[0].double().mean())
        guesses.append([min(share, 1 - share), 0.5])
    result = _dataset(found, radii, guesses, numbers)
    result.attrs = {
        "title": "Five generalisation bounds on real and random labels",
        "data": every.name,
        "data_fingerprint": every.fingerprint,
        "classes": " against ".join(every.classes),
        "features": features,
        "n": sizes[0],
        "n_test": sizes[1],
        "d": sizes[2],
        "margin": margin,
        "delta": delta,
        "norms": str(balls),
        "candidates": five.CANDIDATES,
    }
    result.attrs |= {
        **_claim(result),
        "table": markdown(result),
        **provenance(command or f"bayesgen.experiments.frameworks({data!r}, seeds={numbers})"),
    }
    return result


def bounds_of(
    phi: Tensor, labels: Tensor, norms: Sequence[float], margin: float, delta: float, seed: int
) -> tuple[list[list[Framework]], float]:
    """The five bounds for each label set, in the order of `FRAMEWORKS`, and the common ball.

    Args:
        phi: features of unit length, (n, d) with d ≥ n.
        labels: 0 and 1, (B, n).
        norms, margin, delta, seed: as in `frameworks`.

    Returns:
        Rows by framework and label set, and the radius B.
    """
    certified = five.certificates(phi, labels, delta)
    fits = five.ridge_fits(phi, labels, five.decomposed(certified[0]))
    norm = five.ball(fits, norms)
    rows = [
        [five.pac_bayes(one) for one in certified],
        [five.countable(phi, y, of[0], delta, seed) for y, of in zip(labels, fits, strict=True)],
        [five.rademacher(of, norm, norms, margin, delta) for of in fits],
        [five.vc(of, delta) for of in fits],
        [five.fat_shattering(of, norm, norms, margin, delta) for of in fits],
    ]
    return rows, norm


def passes(real: Any, random: Any, guessing: Any, fit_error: Any) -> bool:
    """Whether a framework passes Zhang's test; see `frameworks` for the three conditions.

    Args:
        real, random: bounds for each seed on real and on random labels.
        guessing: risk of guessing on the real labels for each seed.
        fit_error: training errors of what the framework was applied to, any shape.

    Example:
        >>> passes([0.2], [0.6], [0.5], [0.0]), passes([0.2], [0.4], [0.5], [0.0])
        (True, False)
    """
    real, random, guessing, errors = (
        np.asarray(value, dtype=float) for value in (real, random, guessing, fit_error)
    )
    return bool(
        (errors <= FITTED).all() and (real <= guessing - BELOW).all() and (random >= 0.5).all()
    )


def markdown(result: xr.Dataset) -> str:
    """The table in Markdown, of means over seeds: one row for each framework.

    Args:
        result: result of `frameworks`.

    Returns:
        Rows with risk + complexity = bound and the test error, for real and random labels, the
        training error and bound of a hypothesis that fits, and whether the framework passes.
    """
    mean = result.drop_vars("passes").mean("seed")
    lines = [
        "| framework | real labels: risk + complexity = bound | test error | random labels: risk + "
        "complexity = bound | test error | fit, real / random: training error | its bound | passes "
        "Zhang's test |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in result.framework.values:
        one = mean.sel(framework=name)
        cells = []
        for labels in LABELS:
            row = one.sel(labels=labels)
            cells += [
                f"{_short(row.risk)} + {_short(row.complexity)} = {_short(row.bound)}",
                f"{float(row.test_error):.3f}",
            ]
        cells += [
            " / ".join(_short(value) for value in values)
            for values in (one.fit_error, one.fit_bound)
        ]
        word = "yes" if bool(result.passes.sel(framework=name)) else "no"
        lines.append(f"| {name} | {' | '.join(cells)} | {word} |")
    return "\n".join(lines)


def mapped(data: Dataset, features: str, width: int | None, seed: int) -> tuple[Tensor, Tensor]:
    """Features of unit length of the training and test points, more than training points.

    Raises:
        ValueError: there are too few points, or fewer features than training points.
    """
    n = len(data.x_train)
    if n < _LEAST or len(data.y_train.unique()) < 2:
        raise ValueError(
            f"train must keep at least {_LEAST} points and both classes, got {n} points"
        )
    if features == "relu":
        basis: bases.Basis = bases.RandomFeatures(
            checks.whole("width", 2 * n if width is None else width), activation="relu", seed=seed
        )
    else:
        _, *shape = images(data.x_train).shape
        image = (shape[0], shape[1], shape[2])
        cells = bases.Convolutional(1, image=image).map.d
        filters = -(-12 * n // (10 * cells)) if width is None else width
        basis = bases.Convolutional(checks.whole("width", filters), image=image, seed=seed)
    # Pixels lie in [0, 1]; the ReLU features are of pixels around 0.
    shift = 0.5 if features == "relu" else 0.0
    function = basis.on(data.x_train)
    phi, phi_test = (five.unit(function(x - shift)) for x in (data.x_train, data.x_test))
    if phi.shape[1] < n:
        raise ValueError(
            f"width must give at least {n:,} features, the number of training points, so that the "
            f"class fits random labels, got {phi.shape[1]:,}"
        )
    return phi, phi_test


# --------------------------------------------------------------------------- helpers


def _norms(norms: Sequence[float]) -> list[float]:
    """Check for increasing positive norms."""
    if isinstance(norms, str) or not isinstance(norms, Sequence) or not norms:
        raise ValueError(f"norms must be one or more increasing numbers, got {norms!r}")
    found = [checks.positive_number("norms", float(norm)) for norm in norms]
    if found != sorted(set(found)):
        raise ValueError(f"norms must be one or more increasing numbers, got {norms!r}")
    return found


def _two_classes(data: Dataset, groups: Sequence[Sequence[int]] | None) -> Dataset:
    """The data with the groups as their classes."""
    merged = data if groups is None else datasets.merge(data, groups)
    if merged.num_classes != 2:
        raise ValueError(
            f"groups must give two classes, for which these bounds are, got {merged.num_classes}"
        )
    return merged


def _labels(data: Dataset, seed: int) -> tuple[Tensor, Tensor]:
    """Real and random labels of the training points, (2, n), and of the test points."""
    # One draw for all points, so that training and test labels are independent.
    joined = torch.cat([data.y_train, data.y_test])
    random = corrupt_labels(joined, 1.0, num_classes=2, seed=seed)[0]
    n = len(data.y_train)
    return torch.stack([data.y_train, random[:n]]), torch.stack([data.y_test, random[n:]])


def _dataset(
    found: Sequence[Sequence[Sequence[tuple[Framework, float]]]],
    radii: Sequence[float],
    guesses: Sequence[Sequence[float]],
    seeds: Sequence[int],
) -> xr.Dataset:
    """Values of all seeds, frameworks and label sets, and which frameworks pass."""
    dims = ("framework", "labels", "seed")
    shape = (len(seeds), len(FRAMEWORKS), len(LABELS))
    values = {
        name: np.array(
            [
                error if name == "test_error" else getattr(one, name)
                for by_seed in found
                for by_labels in by_seed
                for one, error in by_labels
            ]
        )
        .reshape(shape)
        .transpose(1, 2, 0)
        for name in _VARIABLES
    }
    guessing = np.array(guesses).T
    passed = [
        passes(values["bound"][f, 0], values["bound"][f, 1], guessing[0], values["fit_error"][f])
        for f in range(len(FRAMEWORKS))
    ]
    words = {
        name: {"units": units, "long_name": says} for name, (units, says) in _VARIABLES.items()
    }
    return xr.Dataset(
        {
            **{name: (dims, values[name], words[name]) for name in _VARIABLES},
            "guessing": (dims[1:], guessing, {"units": "1", "long_name": "risk of guessing"}),
            "norm": ("seed", list(radii), {"units": "1", "long_name": "radius B of the ball"}),
            "passes": ("framework", passed, {"long_name": "passes Zhang's test"}),
        },
        coords={"framework": list(FRAMEWORKS), "labels": list(LABELS), "seed": list(seeds)},
    )


def _claim(result: xr.Dataset) -> dict[str, str]:
    """The source's claim against this result."""
    passed = dict(zip(result.framework.values, result.passes.values.tolist(), strict=True))
    expected = {name: name in FRAMEWORKS[:2] for name in FRAMEWORKS}
    valid = bool((result.test_error.sel(labels="real") <= result.bound.sel(labels="real")).all())
    fitted = float(result.fit_error.max())
    mean = result.bound.mean("seed")
    numbers = ", ".join(
        f"{name} {_short(mean.sel(framework=name, labels='real'))} / "
        f"{_short(mean.sel(framework=name, labels='random'))}"
        for name in FRAMEWORKS
    )
    own = result.own_bound.mean("seed").sel(framework="Rademacher")
    fit = result.fit_bound.mean("seed").sel(framework="PAC-Bayes")
    names = [name for name in FRAMEWORKS if passed[name]]
    found = (
        f"Linear classifiers on {result.attrs['d']:,} random features fit {result.attrs['n']:,} "
        f"real and random labels with training errors up to {fitted:.3f}. Bounds on real / random "
        f"labels, where guessing has {float(result.guessing[0].mean()):.3f} / 0.500: {numbers}. "
        f"{' and '.join(names) if names else 'None'} pass{'es' if len(names) < 2 else ''} Zhang's "
        f"test. A posterior that fits the labels up to an error of {FITTED} has the bounds "
        f"{_short(fit[0])} / {_short(fit[1])}. Where each label set chooses its own ball, "
        f"Rademacher gives {_short(own[0])} / {_short(own[1])}. The bounds on real labels are "
        f"{'never' if valid else 'somewhere'} below the test error."
    )
    if passed == expected and valid:
        return claim(_PAPER, found, "yes")
    vacuous = not any(passed[name] for name in FRAMEWORKS[2:])
    return claim(_PAPER, found, "partly" if vacuous and any(passed.values()) else "no")


def _short(value: Any) -> str:
    """A number with three decimals, or with fewer where it is large."""
    number = float(value)
    return f"{number:.3f}" if abs(number) < 10 else f"{number:.0f}"

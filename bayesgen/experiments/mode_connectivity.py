"""Experiment: solutions of independent trainings are connected by curves of low loss."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from bayesgen import networks, plots
from bayesgen._internal import checks
from bayesgen._internal.progress import Progress, ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.data.dataset import Dataset
from bayesgen.experiments.corruption import loaded
from bayesgen.experiments.executor import Job, Values, sweep
from bayesgen.experiments.experiment import claim, experiment, provenance
from bayesgen.experiments.landscapes import LossLandscape, LossScores, PointEvidence, evidence_at
from bayesgen.experiments.networks import images, seeded, standardised
from bayesgen.training import train as train_network
from bayesgen.training.curves import Curve, flat, train_curve

# Ratio of the barriers of curve and line, and rise of the test error, up to which the claim holds.
LOWER, NEAR = 1 / 20, 0.02
PATHS = ("line", "line to matched units", "Bézier curve", "polygonal chain")
PLANES = ("three solutions", "Bézier curve", "polygonal chain")
SOLUTIONS = ("solution 1", "solution 2", "solution 3", "SWA", "its last step")
_KINDS = {"line": "line", "Bézier curve": "bezier", "polygonal chain": "chain"}


def _channels(data: Dataset) -> int:
    return images(data.x_train[:1]).shape[1]


# Functions that make an untrained network for some data.
NETWORKS: dict[str, Callable[[Dataset], nn.Module]] = {
    "mlp": lambda data: networks.MLP(data.x_train.shape[1], (64, 64), data.num_classes),
    "convnet": lambda data: networks.VGG(
        ((8, 1), (16, 1), (32, 1)), data.num_classes, channels=_channels(data)
    ),
    "preresnet20": lambda data: networks.PreResNet20(
        16, data.num_classes, channels=_channels(data)
    ),
    "vgg16": lambda data: networks.VGG(num_classes=data.num_classes, channels=_channels(data)),
}

# A thousand steps for a curve need a larger learning rate than the source's hundred thousand.
QUICK = {
    "networks": ("mlp", "convnet"),
    "data": "digits",
    "train": 500,
    "batch": 50,
    "epochs": 40,
    "curve_epochs": 120,
    "curve_learning_rate": 0.1,
    "swa_epochs": 10,
    "points": 21,
    "cells": 11,
    "plane_images": 300,
    "evidence_points": 5,
    "evidence_images": 40,
    "augment": False,
}


@dataclass(frozen=True)
class Setup:
    """What all computations for one network share; it is sent to other processes by pickle.

    Attributes:
        network: a name in `NETWORKS`.
        data: the data set.
        settings: settings of `mode_connectivity` by name.
    """

    network: str
    data: Dataset
    settings: dict[str, Any]

    def inputs(self) -> tuple[Tensor, Tensor]:
        """Training and test inputs, standardised images, in float32."""
        x, new = standardised(self.data) if self.network != "mlp" else _plain(self.data)
        return x.float(), new.float()

    def net(self, seed: int) -> nn.Module:
        """A network of this kind that is not trained yet."""
        net = seeded(seed, lambda: NETWORKS[self.network](self.data))
        return net.float().to(self.data.x_train.device)

    def landscape(self, count: int | None = None) -> LossLandscape:
        """The landscape of the network on the first `count` training images."""
        x, new = self.inputs()
        rows = slice(count)
        return LossLandscape(self.net(0), x[rows], self.data.y_train[rows], new, self.data.y_test)

    def training(self, seed: int) -> dict[str, Any]:
        """Arguments that training of networks and of curves share."""
        return {
            "batch": self.settings["batch"],
            "prior_precision": self.settings["weight_decay"] * len(self.data.y_train),
            "augment": _Augment(seed) if self.settings["augment"] else None,
            "seed": seed,
        }

    def tensor(self, theta: np.ndarray) -> Tensor:
        """Stored weights as a tensor on the device."""
        return torch.as_tensor(np.asarray(theta), device=self.data.x_train.device)


def _plain(data: Dataset) -> tuple[Tensor, Tensor]:
    return data.x_train, data.x_test


class _Augment:
    """Random horizontal flips, and shifts by up to four pixels with zeros outside."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        flips = torch.rand(n, generator=self.generator).to(x.device) < 0.5
        x = torch.where(flips[:, None, None, None], x.flip(-1), x)
        padded = nn.functional.pad(x, (4, 4, 4, 4))
        down, right = torch.randint(0, 9, (2, n), generator=self.generator).to(x.device)
        rows = (down[:, None] + torch.arange(height, device=x.device))[:, None, :, None]
        columns = (right[:, None] + torch.arange(width, device=x.device))[:, None, None, :]
        each = torch.arange(n, device=x.device)[:, None, None, None]
        layers = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
        return padded[each, layers, rows, columns]


@experiment(plot=plots.mode_connectivity, quick=QUICK)
@shows_progress
def mode_connectivity(
    networks: Sequence[str] = ("preresnet20",),
    *,
    data: str | Dataset = "cifar10",
    train: int | None = None,
    test: int | None = None,
    epochs: int = 150,
    curve_epochs: int = 200,
    swa_epochs: int = 30,
    learning_rate: float = 0.1,
    curve_learning_rate: float = 0.03,
    swa_learning_rate: float = 0.05,
    weight_decay: float = 3e-4,
    batch: int = 128,
    augment: bool = True,
    points: int = 61,
    cells: int = 21,
    margin: float = 0.2,
    plane_images: int = 10_000,
    evidence_points: int = 13,
    evidence_images: int = 200,
    seed: int = 0,
    data_dir: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    store: str | os.PathLike[str] | None = None,
    progress: ProgressOption = None,
    command: str | None = None,
) -> xr.Dataset:
    """Mode connectivity: loss, N_eff and evidence on lines, curves and planes between solutions.

    This is figure 7. Three networks are trained independently. Between the first two, the bends of
    a quadratic Bézier curve and of a polygonal chain are trained on the mean loss over the curve.
    Losses and errors are recorded on the straight line, on both curves, and on the planes through
    the three solutions and through the ends and bend of each curve. BatchNorm statistics are
    computed anew at each point, on a copy of the network.

    New here: the straight line to the second network with its hidden units permuted to match those
    of the first one, which is the same function (Ainsworth et al. 2023; only for chains of layers);
    stochastic weight averaging from the first solution (Izmailov et al. 2018); and, along all
    paths, N_eff and the evidence of the linearised network at one prior precision. Points between
    the ends are no modes of the log posterior, so that Laplace's evidence at these weights does not
    apply there; the evidence of the linearised network f* + J(θ − θ*) is taken at that model's own
    mode. Laplace's evidence and the gain of a Newton step, by which it fails, are recorded beside
    it. With BatchNorm, weights can be rescaled without a change of the function, and their evidence
    depends on this arbitrary scale; it may be compared along one path, and not between networks.

    Changed against the source: the learning rates decrease as a cosine, and planes show the
    training loss without the penalty on the weights.

    Args:
        networks: names in `NETWORKS`: "mlp", "convnet", "preresnet20", "vgg16".
        data: a name for `bayesgen.data.load`, or a `Dataset`.
        train, test: number of training and test points to draw; None for all.
        data_dir, device: for `bayesgen.data.load`, where data is a name.
        epochs, learning_rate: of the training of the three networks, by SGD with momentum.
        curve_epochs, curve_learning_rate: of the training of the curves.
        swa_epochs, swa_learning_rate: of the weight averaging; one network is added per epoch.
        weight_decay: weight decay on the mean loss.
        batch: number of observations in a step.
        augment: whether training images are flipped and shifted at random.
        points: number of points on a path.
        cells: number of points on each side of a plane.
        margin: room of a plane around the solutions, in units of its sides.
        plane_images: number of training images for the losses on planes.
        evidence_points: number of points on a path with evidence.
        evidence_images: number of training images for the evidence.
        seed: first seed.
        store: folder for the results of single cells, so that an interrupted run continues.
        progress: called as progress(done, expected, what); True shows a progress bar.
        command: command to record in the result; None records this call.

    Returns:
        Dataset of dims (network, path, point): train_loss and test_loss in nats, train_error,
        test_error, distance (norm of the weights between start and point), and, at some points,
        log_marginal_likelihood, effective_dimension, laplace_log_marginal_likelihood and gain; of
        dims (network, plane, row, column): plane_train_loss and plane_test_error, with plane_x and
        plane_y in units of the weights, and the corners (network, plane, corner, axis); and of dims
        (network, solution): the scores and evidences of the solutions and of their average.

    Raises:
        ValueError: a name is unknown, or a number out of range.

    Source: Wilson (2025), figure 7; Garipov et al. (2018), sections 3–4 and appendix A.

    Example:
        >>> tiny = {"train": 60, "epochs": 2, "curve_epochs": 2, "swa_epochs": 1, "points": 3,
        ...         "cells": 2, "evidence_points": 2, "evidence_images": 10, "augment": False}
        >>> result = mode_connectivity(["mlp"], data="digits", test=50, **tiny)
        >>> result.sizes["path"], result.sizes["plane"]
        (4, 3)
    """
    numbers = {"epochs": epochs, "curve_epochs": curve_epochs, "swa_epochs": swa_epochs,
               "batch": batch, "cells": cells, "plane_images": plane_images,
               "evidence_images": evidence_images}  # fmt: skip
    for name, number in numbers.items():
        checks.whole(name, number, 2 if name == "cells" else 1)
    checks.whole("points", points, 2)
    checks.whole("evidence_points", evidence_points, 2)
    checks.seed(seed)
    rates = {"learning_rate": learning_rate, "curve_learning_rate": curve_learning_rate,
             "swa_learning_rate": swa_learning_rate, "weight_decay": weight_decay}  # fmt: skip
    for name, rate in (rates | {"margin": margin}).items():
        checks.positive(name, rate)
    networks = checks.names("networks", networks, tuple(NETWORKS))
    if augment and "mlp" in networks:
        raise ValueError("augment must be False for the network 'mlp', whose inputs are flat")
    if evidence_points > points:
        raise ValueError(f"evidence_points must be at most {points}, got {evidence_points}")
    given = loaded(data, train=train, test=test, data_dir=data_dir, dtype=torch.float64,
                   device=device)  # fmt: skip
    settings = numbers | rates | {"augment": augment, "points": points, "margin": margin,
                                  "evidence_points": evidence_points, "seed": seed}  # fmt: skip
    setups = [Setup(name, given, settings) for name in networks]
    stages = _Stages(store, progress, len(setups))
    ends = stages.run([(_end, setup, seed + k) for setup in setups for k in range(3)])
    thetas = [[each["theta"] for each in ends[3 * i : 3 * i + 3]] for i in range(len(setups))]
    swa = stages.run(
        [(_averaged, setup, own[0]) for setup, own in zip(setups, thetas, strict=True)]
    )
    bends = stages.run(
        [
            (_bend, setup, kind, *own[:2])
            for setup, own in zip(setups, thetas, strict=True)
            for kind in ("bezier", "chain")
        ]
    )
    along, planes, single = [], [], []
    for i, setup in enumerate(setups):
        own, alpha = thetas[i], float(swa[i]["prior_precision"])
        by_kind = {"line": own[0], "Bézier curve": bends[2 * i]["theta"],
                   "polygonal chain": bends[2 * i + 1]["theta"]}  # fmt: skip
        along += [
            (_along, setup, path, own[0], by_kind.get(path, own[0]), own[1], alpha)
            for path in PATHS
        ]
        third = {"three solutions": own[2]} | by_kind
        planes += [(_plane, setup, own[0], own[1], third[plane]) for plane in PLANES]
        every = np.stack([*own, swa[i]["theta"], swa[i]["last"]])
        single.append((_solutions, setup, every, alpha))
    tables = [stages.run(jobs) for jobs in (along, planes, single)]
    result = _collected(list(networks), tables, points)
    words = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    result.attrs = {
        "title": "Loss and evidence between solutions",
        "data": given.name,
        "data_fingerprint": given.fingerprint,
        "n": len(given.y_train),
        **{name: int(value) if isinstance(value, bool) else value
           for name, value in settings.items()},
        **_claim(result),
        **provenance(
            command
            or f"mode_connectivity({list(networks)}, data={given.name!r}, train={train}, "
            f"test={test}, {words})"
        ),
    }  # fmt: skip
    return result


class _Stages:
    """Runs stages of jobs that depend on earlier ones, and counts all of them for progress."""

    def __init__(
        self, store: str | os.PathLike[str] | None, progress: Progress | None, count: int
    ) -> None:
        self.store, self.progress = store, progress
        self.done, self.expected = 0, count * (6 + len(PATHS) + len(PLANES) + 1)

    def run(self, calls: list[tuple[Any, ...]]) -> list[Values]:
        """Results of functions with arguments (function, setup, …)."""
        jobs, marks = [], []
        for run, setup, *rest in calls:
            words = [each for each in rest if isinstance(each, str | int)]
            name = " ".join([setup.network, run.__name__.strip("_"), *map(str, words)])
            jobs.append(Job(name, run, (setup, *rest)))
            parts = [torch.as_tensor(e) if isinstance(e, np.ndarray) else e for e in rest]
            marks.append([setup.data.fingerprint, sorted(setup.settings.items()), *parts])
        report = self.progress
        found = sweep(
            jobs,
            marks,
            store=self.store,
            progress=report
            and (lambda done, _, what: report(self.done + done, self.expected, what)),
        )
        self.done += len(jobs)
        return found


def _end(setup: Setup, seed: int) -> Values:
    """Weights of one trained network."""
    x, _ = setup.inputs()
    net = setup.net(seed)
    given = setup.settings
    train_network(net, x, setup.data.y_train, epochs=given["epochs"],
                  learning_rate=given["learning_rate"], **setup.training(seed))  # fmt: skip
    return {"theta": flat(net).cpu().numpy()}


def _averaged(setup: Setup, theta: np.ndarray) -> Values:
    """Weights after further training, and their average over epochs; α of most evidence at θ."""
    x, _ = setup.inputs()
    given = setup.settings
    landscape = setup.landscape()
    net = landscape.net(setup.tensor(theta))
    rows = slice(given["evidence_images"])
    found = evidence_at(net, x[rows], setup.data.y_train[rows])
    average = AveragedModel(net)
    for epoch in range(given["swa_epochs"]):
        common = setup.training(given["seed"] + 1000 + epoch)
        train_network(net, x, setup.data.y_train, epochs=1, schedule="constant",
                      learning_rate=given["swa_learning_rate"], **common)  # fmt: skip
        average.update_parameters(net)
    return {
        "theta": flat(average.module).cpu().numpy(),
        "last": flat(net).cpu().numpy(),
        "prior_precision": found.prior_precision,
    }


def _bend(setup: Setup, kind: str, start: np.ndarray, end: np.ndarray) -> Values:
    """The trained bend of a curve."""
    x, _ = setup.inputs()
    given = setup.settings
    curve = train_curve(
        setup.net(0), setup.tensor(start), setup.tensor(end), x, setup.data.y_train, kind=kind,
        epochs=given["curve_epochs"], learning_rate=given["curve_learning_rate"],
        **setup.training(given["seed"] + 500),
    )  # fmt: skip
    return {"theta": curve.bend.cpu().numpy()}


def _along(
    setup: Setup, path: str, start: np.ndarray, bend: np.ndarray, end: np.ndarray, alpha: float
) -> Values:
    """Scores at all points of a path, and evidence at some."""
    x, _ = setup.inputs()
    given = setup.settings
    landscape = setup.landscape()
    first, middle, last = (setup.tensor(theta) for theta in (start, bend, end))
    values = np.full((len(_PATH_NAMES), given["points"]), np.nan)
    if path == "line to matched units":
        matching = _match(setup, first, last, x)
        if matching is None:  # no chain of layers
            return dict(zip(_PATH_NAMES, values, strict=True))
        last = matching
    curve = Curve(_KINDS.get(path, "line"), first, middle, last)
    steps = np.linspace(0, 1, given["points"])
    chosen = set(np.linspace(0, given["points"] - 1, given["evidence_points"]).round().astype(int))
    rows = slice(given["evidence_images"])
    for point, t in enumerate(steps):
        theta = curve.at(float(t))
        values[:4, point] = landscape.at(theta)
        values[4, point] = float((theta - first).norm())
        if point in chosen:
            net = landscape.net(theta)
            found = evidence_at(net, x[rows], setup.data.y_train[rows], alpha)
            values[5:, point] = found[:-1]
    return dict(zip(_PATH_NAMES, values, strict=True))


_PATH_NAMES = (*LossScores._fields, "distance", *PointEvidence._fields[:-1])


def _match(setup: Setup, first: Tensor, last: Tensor, x: Tensor) -> Tensor | None:
    """Weights of the last network with units matched to the first one, where it is a chain."""
    reference, net = setup.landscape().net(first), setup.landscape().net(last)
    if not isinstance(net, nn.Sequential) or not isinstance(reference, nn.Sequential):
        return None
    return flat(networks.matched(net, reference, x[:100], seed=setup.settings["seed"]))


def _plane(setup: Setup, start: np.ndarray, end: np.ndarray, third: np.ndarray) -> Values:
    """Scores on the plane through three points of weights."""
    given = setup.settings
    landscape = setup.landscape(given["plane_images"])
    origin, other, last = (setup.tensor(theta).double() for theta in (start, end, third))
    right = other - origin
    width = right.norm()
    right = right / width
    up = last - origin
    across = up @ right
    up = up - across * right
    height = up.norm()
    up = up / height
    margin = given["margin"]
    share = torch.linspace(-margin, 1 + margin, given["cells"], dtype=torch.float64)
    plane = np.empty((2, len(share), len(share)))
    for row, y in enumerate(share.tolist()):
        for column, x in enumerate(share.tolist()):
            theta = origin + x * width * right + y * height * up
            found = landscape.at(theta.float())
            plane[:, row, column] = found.train_loss, found.test_error
    corners = np.array([[0, 0], [float(width), 0], [float(across), float(height)]])
    return {
        "plane_train_loss": plane[0],
        "plane_test_error": plane[1],
        "plane_x": share.numpy() * float(width),
        "plane_y": share.numpy() * float(height),
        "corners": corners,
    }


def _solutions(setup: Setup, thetas: np.ndarray, alpha: float) -> Values:
    """Scores and evidences of solutions, (solutions,) each."""
    x, _ = setup.inputs()
    landscape = setup.landscape()
    rows = slice(setup.settings["evidence_images"])
    found = []
    for each in thetas:
        theta = setup.tensor(each)
        scores = landscape.at(theta)
        evidence = evidence_at(landscape.net(theta), x[rows], setup.data.y_train[rows], alpha)
        found.append([*scores, *evidence])
    names = (*LossScores._fields, *PointEvidence._fields)
    return dict(zip(names, np.array(found).T, strict=True))


_UNITS = {
    "train_loss": ("nats", "mean negative log-likelihood of training labels"),
    "train_error": ("1", "share of wrong training labels"),
    "test_loss": ("nats", "mean negative log-likelihood of test labels"),
    "test_error": ("1", "share of wrong test labels"),
    "distance": ("1", "norm of the weights between start and point"),
    "log_marginal_likelihood": ("nats", "evidence of the linearised network"),
    "effective_dimension": ("1", "effective dimension of the GGN of the linearised network"),
    "laplace_log_marginal_likelihood": ("nats", "Laplace's evidence at these weights"),
    "gain": ("nats", "gain of a Newton step, zero at a mode"),
    "prior_precision": ("1", "prior precision α of both evidences"),
    "plane_train_loss": ("nats", "mean negative log-likelihood of training labels"),
    "plane_test_error": ("1", "share of wrong test labels"),
    "plane_x": ("1", "distance of weights from the first solution, along the second"),
    "plane_y": ("1", "distance of weights, at right angles"),
    "corners": ("1", "coordinates of the points that define a plane"),
}


def _collected(names: list[str], tables: list[list[Values]], points: int) -> xr.Dataset:
    """The Dataset from the values of paths, planes and solutions."""
    along, planes, single = tables
    count = len(names)
    variables: dict[str, Any] = {}
    for key in _PATH_NAMES:
        values = np.stack([each[key] for each in along]).reshape(count, len(PATHS), points)
        variables[key] = (("network", "path", "point"), values)
    axes = {"plane_train_loss": ("row", "column"), "plane_test_error": ("row", "column"),
            "plane_x": ("column",), "plane_y": ("row",), "corners": ("corner", "axis")}  # fmt: skip
    for key, dims in axes.items():
        every = np.stack([each[key] for each in planes])
        shape = (count, len(PLANES), *every.shape[1:])
        variables[key] = (("network", "plane", *dims), every.reshape(shape))
    for key in (*LossScores._fields, *PointEvidence._fields):
        values = np.stack([each[key] for each in single])
        variables[f"solution_{key}"] = (("network", "solution"), values)
    result = xr.Dataset(
        variables,
        coords={
            "network": names,
            "path": list(PATHS),
            "point": np.linspace(0, 1, points),
            "plane": list(PLANES),
            "corner": ["start", "end", "third"],
            "axis": ["x", "y"],
            "solution": list(SOLUTIONS),
        },
    )
    for name in result.data_vars:
        units, words = _UNITS[str(name).removeprefix("solution_")]
        result[name].attrs = {"units": units, "long_name": words}
    result.point.attrs = {"units": "1", "long_name": "t"}
    return result


def barriers(result: xr.Dataset) -> xr.DataArray:
    """Largest training loss on each path minus that of its worse end, in nats, (network, path).

    Args:
        result: result of `mode_connectivity`.
    """
    loss = result.train_loss
    ends = np.maximum(loss.isel(point=0), loss.isel(point=-1))
    return loss.max("point") - ends


def _claim(result: xr.Dataset) -> dict[str, str]:
    """Attributes with the paper's claim and this result."""
    height = barriers(result)
    parts, good = [], []
    for network in result.network.values:
        one, own = result.sel(network=network), height.sel(network=network)
        curves = own.sel(path=["Bézier curve", "polygonal chain"])
        errors = one.test_error.sel(path=["Bézier curve", "polygonal chain"])
        worse = float(errors.max() - one.test_error.sel(path="line").isel(point=[0, -1]).max())
        line, best = float(own.sel(path="line")), float(own.sel(path="Bézier curve"))
        words = (
            f"{network}: the training loss rises by {line:.3g} nats on the line, "
            f"{best:.2g} on the Bézier curve and {float(curves[1]):.2g} on the chain, where the "
            f"test error is at most {worse:.3f} above that of the worse end"
        )
        matched = float(own.sel(path="line to matched units"))
        if np.isfinite(matched):
            words += f"; with matched units the line rises by {matched:.2g}"
        swa = one.solution_test_error
        words += (
            f"; weight averaging changes the test error from {float(swa[0]):.3f} to "
            f"{float(swa.sel(solution='SWA')):.3f}"
        )
        parts.append(words)
        good.append(bool(float(curves.max()) < LOWER * line) and worse <= NEAR)
    return claim(
        "Solutions of independent trainings, which a straight line leads over a barrier, are "
        "connected by simple curves along which training loss and test error stay low.",
        ". ".join(parts) + ".",
        "yes" if all(good) else "partly" if any(good) else "no",
    )

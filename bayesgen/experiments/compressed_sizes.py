"""Compressed networks of several widths, each selected among settings that its bound pays for."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from bayesgen._internal import checks
from bayesgen._internal.hashing import fingerprint
from bayesgen._internal.progress import ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.data.dataset import Dataset
from bayesgen.experiments.executor import Job, Values, sweep
from bayesgen.experiments.networks import images
from bayesgen.experiments.width_families import FAMILIES
from bayesgen.pacbayes import Compressed, compress
from bayesgen.pacbayes.compression.compressed_network import zero_one_risk
from bayesgen.pacbayes.compression.selection import least_bound

# Families of `width_families` without statistics of data in their layers.
NETWORKS = ("mlp", "convnet")
# One setting that is tried: dimension of the subspace, number of levels, seed.
Setting = tuple[int, int, int]


@dataclass(frozen=True)
class CodeGrid:
    """Settings among which a compressed network is selected, and those of its training.

    Attributes:
        dimensions: dimensions of the subspace.
        levels: numbers of levels of the quantised coordinates.
        seeds: seeds of the subspace, or their number.
        epochs, quantised_epochs, batch, learning_rate: as in `bayesgen.pacbayes.compress`.

    Raises:
        ValueError: a list is empty or does not increase.
    """

    dimensions: tuple[int, ...] = (250, 500, 1000, 2000)
    levels: tuple[int, ...] = (7,)
    seeds: int | tuple[int, ...] = 1
    epochs: int = 14
    quantised_epochs: int = 8
    batch: int = 256
    learning_rate: float = 0.3

    def __post_init__(self) -> None:
        for name, least in (("dimensions", 1), ("levels", 2)):
            found = checks.increasing(name, getattr(self, name), least)
            object.__setattr__(self, name, tuple(found))
        seeds = self.seeds
        numbers = range(checks.whole("seeds", seeds)) if isinstance(seeds, int) else seeds
        object.__setattr__(self, "seeds", tuple(checks.increasing("seeds", tuple(numbers), 0)))
        checks.whole("epochs", self.epochs)
        checks.whole("quantised_epochs", self.quantised_epochs)
        checks.whole("batch", self.batch)

    @property
    def grid(self) -> list[Setting]:
        """Every combination of dimension, levels and seed."""
        assert isinstance(self.seeds, tuple)
        return list(itertools.product(self.dimensions, self.levels, self.seeds))

    def fitting(self, parameters: int) -> list[Setting]:
        """Those of the grid that a network of so many parameters can have.

        Raises:
            ValueError: there is none.
        """
        found = [one for one in self.grid if one[1] <= one[0] <= parameters]
        if not found:
            raise ValueError(
                f"dimensions must have a value from {min(self.levels)} to {parameters:,}, the "
                f"number of parameters of the smallest network, got {list(self.dimensions)}"
            )
        return found


@dataclass(frozen=True)
class SizeTask:
    """An architecture of one width, and the data that it is compressed on.

    Attributes:
        name: a name in `NETWORKS`.
        width: width of the network.
        data: data; its inputs are used as they are, without statistics of the training data.
        labels: training labels, (n,).
        what: words that tell the task from others of the same width.
    """

    name: str
    width: int
    data: Dataset
    labels: Tensor
    what: str = ""

    def network(self) -> nn.Module:
        """The architecture, on the device of the data."""
        return FAMILIES[self.name].network(self.width, self.data, 0)

    def inputs(self) -> tuple[Tensor, Tensor]:
        """Training and test inputs, which no statistics of the training data enter."""
        found = self.data.x_train.float(), self.data.x_test.float()
        return (images(found[0]), images(found[1])) if self.name == "convnet" else found


class Selected(NamedTuple):
    """The compressed network of least bound of a task, and all that were tried.

    Attributes:
        best: the network; its certificate pays for the selection.
        test_error: its error on the clean test labels.
        parameters: number of weights of the architecture.
        tried: the settings that were tried, in the order of `codes`.
        codes: the networks that were tried.
        test_errors: their errors on the clean test labels.
    """

    best: Compressed
    test_error: float
    parameters: int
    tried: list[Setting]
    codes: list[Compressed]
    test_errors: list[float]


@shows_progress
def select_all(
    tasks: Sequence[SizeTask],
    settings: CodeGrid,
    candidates: int,
    *,
    delta: float = 0.05,
    store: Any = None,
    progress: ProgressOption = None,
) -> list[Selected]:
    """Compress the architecture of each task with every setting, and select that of least bound.

    Each task and setting is one cell of a sweep. Settings whose dimension exceeds the number of
    weights are left out, and are paid for all the same. Tasks with equal labels share their cells.

    Args:
        tasks: the tasks.
        settings: settings among which is selected.
        candidates: number of further choices, such as widths, that the bounds pay for.
        delta: δ of the bounds.
        store, progress: as in `bayesgen.experiments.executor.sweep`.

    Raises:
        ValueError: a network has fewer weights than any dimension.
    """
    keys = [
        (task.name, task.width, fingerprint(task.data.fingerprint, task.labels)) for task in tasks
    ]
    first: dict[Any, SizeTask] = {}
    for key, task in zip(keys, tasks, strict=True):
        first.setdefault(key, task)
    if len(first) < len(tasks):
        once = select_all(
            list(first.values()), settings, candidates, delta=delta, store=store, progress=progress
        )
        by_key = dict(zip(first, once, strict=True))
        return [by_key[key] for key in keys]
    nets = [task.network() for task in tasks]
    sizes = [sum(p.numel() for p in net.parameters()) for net in nets]
    tried = [settings.fitting(size) for size in sizes]
    jobs, marks = [], []
    for task, chosen in zip(tasks, tried, strict=True):
        for one in chosen:
            what = f", {task.what}" if task.what else ""
            k, levels, seed = one
            title = f"code, {task.name} of width {task.width}{what}, k {k}, L {levels}, seed {seed}"
            jobs.append(Job(title, code_of, (task, one, settings)))
            how = (settings.epochs, settings.quantised_epochs, settings.batch)
            says = FAMILIES[task.name].says
            marks.append([says, task.data.fingerprint, task.labels, *how, settings.learning_rate])
    cells = iter(sweep(jobs, marks, store=store, progress=progress))
    paid = len(settings.grid) * checks.whole("candidates", candidates)
    found = []
    for task, net, size, chosen in zip(tasks, nets, sizes, tried, strict=True):
        values = [next(cells) for _ in chosen]
        codes = [restored_code(task, net, cell) for cell in values]
        errors = [float(cell["test_error"]) for cell in values]
        best = least_bound(codes, paid, delta)
        error = errors[[code.code for code in codes].index(best.code)]
        found.append(Selected(best, error, size, chosen, codes, errors))
    return found


def code_of(task: SizeTask, setting: Setting, settings: CodeGrid) -> Values:
    """Compress one architecture with one setting: the code's bytes, and its errors."""
    x, new = task.inputs()
    dimension, levels, seed = setting
    small = compress(
        task.network(),
        x,
        task.labels,
        dimension=dimension,
        levels=levels,
        seed=seed,
        epochs=settings.epochs,
        quantised_epochs=settings.quantised_epochs,
        batch=min(settings.batch, len(x)),
        learning_rate=settings.learning_rate,
    )
    return {
        "code": np.frombuffer(small.code, dtype=np.uint8).astype(np.float32),
        "risk": small.risk,
        "test_error": zero_one_risk(small.decoded(), new, task.data.y_test),
    }


def restored_code(task: SizeTask, net: nn.Module, cell: Values) -> Compressed:
    """The compressed network of a stored cell."""
    code = np.asarray(cell["code"]).astype(np.uint8).tobytes()
    classes = task.data.num_classes
    return Compressed(code, net, "kronecker", float(cell["risk"]), len(task.labels), classes)


def on_noisy_labels(error: Any, level: Any, classes: int) -> Any:
    """Expected error on labels that are redrawn with a probability, from that on clean labels.

    It is (1 − p) e + p (1 − 1/C).
    """
    return (1 - level) * error + level * (1 - 1 / classes)

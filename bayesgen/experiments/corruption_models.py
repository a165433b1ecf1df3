"""Experiment: evidence and errors of several models on the same corrupted labels."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from gpytorch.kernels import RBFKernel
from torch import Tensor

from bayesgen import likelihoods, networks, plots
from bayesgen._internal import checks
from bayesgen._internal.progress import ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.data.dataset import Dataset
from bayesgen.errors import NotAtModeWarning
from bayesgen.evidence import Evidence
from bayesgen.experiments.corruption import corruptions, grid, loaded
from bayesgen.experiments.executor import Job, sweep
from bayesgen.experiments.experiment import experiment, provenance
from bayesgen.experiments.network_evidence import PRECISION, annealed, code_length, tangent
from bayesgen.experiments.networks import NETWORKS, Architecture, Cell, EstimatedEvidence, seeded
from bayesgen.features import priors
from bayesgen.models import DeepKernel, GaussianProcess, Polynomial

# Evidence of labels under a softmax, or of their one-hot codes under Gaussian noise. They are about
# different data and must not be compared with each other.
LABELS, DENSITY = "labels", "density"


@dataclass(frozen=True)
class Model:
    """A model of a corruption study, with the function that runs it.

    Attributes:
        says: description of the model.
        kind: LABELS or DENSITY.
        run: (data, labels (n,), seed) → `Cell`.
    """

    says: str
    kind: str
    run: Callable[[Dataset, Tensor, int], Cell]


def _one_hot(data: Dataset, labels: Tensor) -> Tensor:
    return likelihoods.one_hot(labels, data.num_classes, dtype=data.x_train.dtype)


def _gp(data: Dataset, labels: Tensor, _: int) -> Cell:
    posterior = GaussianProcess(RBFKernel()).fit(data.x_train, _one_hot(data, labels))
    return Cell(posterior.evidence, posterior.fitted(), posterior.mean(data.x_test))


def _gp_laplace(data: Dataset, labels: Tensor, _: int) -> Cell:
    gp = GaussianProcess(RBFKernel(), likelihood=likelihoods.Softmax(data.num_classes))
    posterior = gp.fit(data.x_train, labels)
    scores = [posterior.predict(x, latent=True).mean for x in (data.x_train, data.x_test)]
    return Cell(posterior.evidence, *scores)


def _polynomial(data: Dataset, labels: Tensor, _: int) -> Cell:
    model = Polynomial(
        3, priors.geometric(2.0), kind="legendre", input_range=(0.0, 1.0), interactions=False
    )
    posterior = model.fit(data.x_train, _one_hot(data, labels))
    return Cell(posterior.evidence, posterior.fitted(), posterior.mean(data.x_test))


def _dkl(**cure: Any) -> Callable[[Dataset, Tensor, int], Cell]:
    """A function that fits a deep kernel with these settings, which may reduce its overfitting."""

    def run(data: Dataset, labels: Tensor, seed: int) -> Cell:
        net = seeded(seed, lambda: networks.MLP(data.x_train.shape[1], (64,), 16)).to(data.x_train)
        settings = {"steps": 100, "learning_rate": 3e-3, "seed": seed} | cure
        deep = DeepKernel(net, RBFKernel(), **settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotAtModeWarning)
            posterior = deep.fit(data.x_train, _one_hot(data, labels))
        return Cell(posterior.evidence, posterior.fitted(), posterior.mean(data.x_test))

    return run


MODELS = {
    "gp": Model("Gaussian process, RBF, exact", DENSITY, _gp),
    "polynomial": Model("additive polynomial of degree 3, exact", DENSITY, _polynomial),
    "dkl": Model("deep kernel, complexity excludes the features", DENSITY, _dkl()),
    "dkl-conditional": Model(
        "deep kernel, trained on log p(y_{>m} | y_{≤m})", DENSITY, _dkl(objective="conditional")
    ),
    "dkl-lipschitz": Model(
        "deep kernel, layers of spectral norm ≤ 1", DENSITY, _dkl(lipschitz=1.0)
    ),
    "dkl-prior": Model(
        "deep kernel, prior on the weights (α = 10) by Laplace, σ² = 0.01",
        DENSITY,
        # A learnt noise variance would go to zero, and with it the complexity under a prior would
        # diverge.
        _dkl(prior_precision=10.0, noise=0.01, steps=200, learning_rate=1e-2),
    ),
    "gp-laplace": Model("Gaussian process, softmax, Laplace", LABELS, _gp_laplace),
    "mlp": Model("MLP, Laplace (KFAC, one precision per layer)", LABELS, NETWORKS["mlp"].alone),
    "resnet": Model(
        "PreResNet-20 at a training loss of 0.001, Laplace (KFAC, one precision per layer)",
        LABELS,
        NETWORKS["resnet"].alone,
    ),
}


# Other estimates of log p(D) of a model, by the names of the model and of the estimate.
ESTIMATES = {
    ("gp-laplace", "laplace"): MODELS["gp-laplace"],
    ("mlp", "laplace"): MODELS["mlp"],
    ("mlp", "tangent"): Model(
        "Gaussian process with the tangent kernel of the MLP at its initial weights, softmax, "
        "Laplace",
        LABELS,
        partial(tangent, "mlp"),
    ),
    ("mlp", "prequential"): Model(
        f"MLP, prequential code of four networks at modes (α = {PRECISION:g})",
        LABELS,
        partial(code_length, "mlp"),
    ),
    ("mlp", "annealed"): Model(
        f"MLP, annealing of the weights (α = {PRECISION:g})", LABELS, partial(annealed, "mlp")
    ),
    ("resnet", "laplace"): MODELS["resnet"],
    ("resnet", "prequential"): Model(
        "PreResNet-20, prequential code of one trained network (α = 0.5)",
        LABELS,
        partial(code_length, "resnet"),
    ),
}
EVIDENCES = tuple(dict.fromkeys(evidence for _, evidence in ESTIMATES))


def _chosen(names: Sequence[str], evidence: str | Sequence[str] | None) -> dict[str, _Key]:
    """Label in the result → names of the model and of its estimate; None for its own evidence.

    Raises:
        ValueError: a name is unknown; a model has no such estimate.
    """
    if evidence is None:
        return {name: (name, None) for name in names}
    kinds = [evidence] if isinstance(evidence, str) else evidence
    found: dict[str, _Key] = {}
    for kind in checks.names("evidence", kinds, EVIDENCES):
        able = [name for name, other in ESTIMATES if other == kind]
        for name in names:
            if name not in able:
                raise ValueError(
                    f"evidence must be one that every model has: {kind!r} is an estimate for "
                    f"{', '.join(able)}, and not for {name!r}"
                )
            found[f"{name}, {kind}"] = name, kind
    return found


_Key = tuple[str, str | None]


def _model(key: _Key) -> Model:
    name, kind = key
    return MODELS[name] if kind is None else ESTIMATES[name, kind]


@experiment(plot=plots.corruption_models)
@shows_progress
def corruption_models(
    data: str | Dataset = "digits",
    models: Sequence[str] = ("gp", "polynomial", "gp-laplace", "mlp"),
    *,
    levels: Sequence[float] | None = None,
    seeds: int | Sequence[int] = 1,
    kind: str = "uniform",
    train: int | None = None,
    test: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    dtype: torch.dtype = torch.float64,
    device: str | torch.device = "cpu",
    evidence: str | Sequence[str] | None = None,
    ensemble: bool | None = None,
    executor: Executor | None = None,
    store: str | os.PathLike[str] | None = None,
    progress: ProgressOption = None,
    command: str | None = None,
) -> xr.Dataset:
    """Fit several models to the same corrupted labels and record evidence and errors.

    The models have two kinds of evidence that must not be compared with each other: probabilities
    of the labels (gp-laplace, mlp, resnet), where guessing has the log evidence −n ln C, and
    densities of their one-hot codes (gp, polynomial, dkl). Networks are trained until they fit
    their labels. At the prior precision of maximum evidence they are usually not at a mode of their
    log posterior. The ResNet fits any labels, and is therefore brought to one training loss, 0.001
    nats per observation, because a lower loss gives a flatter mode and differs between runs.

    Args:
        data: a name for `bayesgen.data.load`, or a `Dataset`.
        models: names in `MODELS`.
        levels, seeds, kind: as in `corruption`.
        train, test: number of training and test points to draw; None for all.
        data_dir, dtype, device: for `bayesgen.data.load`, where data is a name.
        evidence: estimates of log p(D), one or more of "laplace", "tangent", "prequential" and
            "annealed" (see `ESTIMATES` for the models that have them), each of which is computed
            for every model; the models of the result are then named "mlp, prequential". None takes
            each model's own. Annealing has the prior precision 1, and codes have 1 for "mlp" and
            0.5 for "resnet"; both learn no hyperparameters, while Laplace's approximation learns
            the precisions. They are therefore to be compared as functions of the level. Annealing
            takes minutes for each network.
        ensemble: whether networks of one architecture are trained together for all levels and seeds
            by `bayesgen.train_ensemble`; None does so on a GPU.
        executor: any `concurrent.futures.Executor` on which the fits run; see
            `bayesgen.experiments.executor`. None runs them in this process, one after another.
        store: folder where each result is written when it is done, so that an interrupted study can
            continue.
        progress: called as progress(done, expected, what); True shows a progress bar.
        command: command to record in the result; None records this call.

    Returns:
        Dataset of dims (model, level, seed) with log_marginal_likelihood, fit, complexity,
        effective_dimension, evidence_error (half the width of the interval for annealing, and 0 for
        a code, whose length is exact), train_error (against the corrupted labels) and test_error
        (against clean ones); and, for each model, `kind`, `says` and `excludes`. Parts
        that an estimate does not have are nan.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Source: Wilson (2025), figure 1 (d)–(e); Wilson & Izmailov (2020), section 6.

    Example:
        >>> result = corruption_models(
        ...     models=["gp", "polynomial"], train=60, test=50, levels=[0.0, 1.0])
        >>> dict(result.sizes)
        {'model': 2, 'level': 2, 'seed': 1}
    """
    chosen, numbers = grid(levels, seeds, kind)
    if not models or len(set(models)) < len(models):
        raise ValueError(f"models must be one or more different names, got {list(models)}")
    for name in models:
        checks.one_of("models", name, tuple(MODELS))
    keys = _chosen(models, evidence)
    if command is None:
        asked = "" if evidence is None else f", evidence={evidence!r}"
        command = (
            f"bayesgen.experiments.corruption_models({data!r}, {list(models)}, levels={chosen}, "
            f"seeds={numbers}, kind={kind!r}, train={train}, test={test}{asked})"
        )
    data = loaded(data, train=train, test=test, data_dir=data_dir, dtype=dtype, device=device)
    labels, _ = corruptions(data.y_train, chosen, numbers, data.num_classes, kind)
    jobs, marks = [], []
    if ensemble is None:
        ensemble = data.x_train.device.type == "cuda"
    every = [numbers[row % len(numbers)] for row in range(len(labels))]
    for label, key in keys.items():
        shared, name = None, key[0]
        own_evidence = key[1] in (None, "laplace")
        if ensemble and executor is None and name in NETWORKS and own_evidence:
            shared = _Together(NETWORKS[name], data, labels, every)
        for row, own in enumerate(labels):
            level, seed = chosen[row // len(numbers)], numbers[row % len(numbers)]
            title = f"{label}, level {level:g}, seed {seed}"
            if shared is None:
                jobs.append(Job(title, _cell, (key, data, own, seed)))
            else:
                jobs.append(Job(title, shared.cell, (row,)))
            dtype_name = str(data.x_train.dtype)
            marks.append(
                [_model(key).says, data.fingerprint, dtype_name, own, seed, shared is None]
            )
    cells = sweep(jobs, marks, executor=executor, store=store, progress=progress)
    table = {name: [cell[name] for cell in cells] for name in _VARIABLES}
    excludes = [cell["excludes"] for cell in cells[len(labels) - 1 :: len(labels)]]
    shape = (len(keys), len(chosen), len(numbers))
    return xr.Dataset(
        {
            name: (
                ("model", "level", "seed"),
                np.array(table[name]).reshape(shape),
                {"units": units, "long_name": words},
            )
            for name, (units, words) in _VARIABLES.items()
        }
        | {
            "kind": ("model", [_model(key).kind for key in keys.values()]),
            "says": ("model", [_model(key).says for key in keys.values()]),
            "excludes": ("model", excludes),
        },
        coords={"model": list(keys), "level": chosen, "seed": numbers},
        attrs={
            "title": "Evidence of several models against label corruption",
            "data": data.name,
            "data_fingerprint": data.fingerprint,
            "n": len(data.y_train),
            "n_test": len(data.y_test),
            "classes": data.num_classes,
            "corruption": kind,
            "dtype": str(data.x_train.dtype).removeprefix("torch."),
            "device": str(data.x_train.device),
            **provenance(command),
        },
    )


# Units and long names of the values of `evidence_values`.
EVIDENCE_VARIABLES = {
    "log_marginal_likelihood": ("nats", "log marginal likelihood (evidence)"),
    "fit": ("nats", "expected log likelihood under the posterior"),
    "complexity": ("nats", "KL divergence of posterior from prior"),
    "effective_dimension": ("1", "effective dimension"),
    "evidence_error": ("nats", "error of the log marginal likelihood"),
}
_VARIABLES = EVIDENCE_VARIABLES | {
    "train_error": ("1", "share of training labels, as corrupted, not fitted"),
    "test_error": ("1", "error on clean test labels"),
}


class _Together:
    """An ensemble of networks, trained when its first result is needed."""

    def __init__(
        self, architecture: Architecture, data: Dataset, labels: Tensor, seeds: list[int]
    ) -> None:
        self.architecture, self.data, self.labels, self.seeds = architecture, data, labels, seeds
        self.cells: list[Cell] | None = None

    def cell(self, row: int) -> dict[str, float | str]:
        """Values of one network of the ensemble."""
        if self.cells is None:
            self.cells = self.architecture.together(self.data, self.labels, self.seeds)
        return _values(self.cells[row], self.labels[row], self.data)


def _cell(key: _Key, data: Dataset, labels: Tensor, seed: int) -> dict[str, float | str]:
    """Values of one model on one task; runs in any process."""
    return _values(_model(key).run(data, labels, seed), labels, data)


def evidence_values(e: Evidence) -> dict[str, float | str]:
    """Values of `EVIDENCE_VARIABLES` for one task, and what its complexity excludes."""
    return {
        "excludes": ", ".join(e.complexity_excludes),
        "log_marginal_likelihood": float(e.log_marginal_likelihood),
        "fit": float(e.fit),
        "complexity": float(e.complexity),
        "effective_dimension": float(e.effective_dimension),
        "evidence_error": float(e.error),
    }


def _estimate_values(e: EstimatedEvidence) -> dict[str, float | str]:
    """Values of `EVIDENCE_VARIABLES` for an estimate without some of the parts."""
    return {
        "excludes": "",
        "log_marginal_likelihood": e.value,
        "fit": e.fit,
        "complexity": e.complexity,
        "effective_dimension": math.nan,
        "evidence_error": e.error,
    }


def _values(cell: Cell, labels: Tensor, data: Dataset) -> dict[str, float | str]:
    e = cell.evidence
    found = _estimate_values(e) if isinstance(e, EstimatedEvidence) else evidence_values(e)
    return found | {
        "train_error": float((cell.fitted.argmax(-1) != labels).double().mean()),
        "test_error": float((cell.predicted.argmax(-1) != data.y_test).double().mean()),
    }


def summary(result: xr.Dataset) -> pd.DataFrame:
    """Table of evidence in nats per observation, means over seeds, level by model.

    Args:
        result: result of `corruption_models`.
    """
    mean = result.log_marginal_likelihood.mean("seed") / result.attrs["n"]
    table: pd.DataFrame = mean.transpose("level", "model").to_pandas()
    return table.rename_axis(index="level", columns=None)

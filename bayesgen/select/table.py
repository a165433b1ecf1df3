"""Fit candidate models to a user's table and rank them by their evidence."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bayesgen import likelihoods
from bayesgen._internal import checks, table_files
from bayesgen._internal.progress import ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.data.columns import Column, Columns
from bayesgen.data.scaled_columns import ScaledColumns
from bayesgen.errors import NotConvergedError
from bayesgen.models import Posterior
from bayesgen.posterior.traced import pay
from bayesgen.provenance import Payment
from bayesgen.select.candidates import candidates, small_candidates
from bayesgen.select.compare import NULL, compare, same_models
from bayesgen.select.predictions import predictions

# Smallest number of rows; with fewer, a ranking reflects only the priors.
_FEWEST = 5
# A target of whole numbers holds classes where it has at most this number of different values, and
# on average at least this number of rows for each.
_CLASSES, _EACH = 10, 5
# Largest number of rows times classes for which labels are fitted, and not their one-hot codes.
_LABELS = 2000
# Largest gain of a Newton step at what counts as a maximum of the evidence, in nats.
_GAIN = 0.25
_TASKS = ("classification", "regression")
# Share of a standard normal distribution within two standard deviations.
_TWO_SD = math.erf(math.sqrt(2.0))


@dataclass(frozen=True)
class Table:
    """Inputs and target of a table, with what is needed to undo their scaling.

    Attributes:
        x: inputs, (n, D), each column of mean 0 and standard deviation 1.
        y: target, (n,): of mean 0 and standard deviation 1, or class labels 0..C − 1.
        columns: coding and scaling of the columns, and the names of the classes.
        notes: descriptions of what was left out, coded or decided.
    """

    x: Tensor
    y: Tensor
    columns: ScaledColumns
    notes: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return self.columns.inputs

    @property
    def target(self) -> str:
        """Name of the target."""
        return self.columns.target

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; empty for a real target."""
        return self.columns.classes

    @property
    def observed(self) -> Tensor:
        """The target in its own units, (n,)."""
        return self.y * self.columns.target_size + self.columns.target_centre

    def input(self, column: int) -> Tensor:
        """An input in its own units, (n,)."""
        return self.x[:, column] * self.columns.size[column] + self.columns.centre[column]


@dataclass(frozen=True)
class Selection:
    """Candidate models fitted to one table, with their ranking.

    Attributes:
        table: the data.
        posteriors: posterior of each candidate that converged, by name.
        ranking: result of `bayesgen.compare`, in which each different model counts once. Where a
            fit did not converge, its row has NaN, and a column `failed` says so.
        failed: why candidates did not converge, by name.
        notes: sentences about the comparison.
    """

    table: Table
    posteriors: dict[str, Posterior]
    ranking: pd.DataFrame
    failed: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read(
    file: str | os.PathLike[str], target: str, *, sep: str = ",", task: str | None = None
) -> Table:
    """Read a table from a CSV, Parquet or `.npz` file; see `from_frame`.

    Args:
        file: the file.
        target: name of the target.
        sep: separator of the columns of a CSV file.
        task: as in `from_frame`.

    Raises:
        FileNotFoundError: the file does not exist.
        ImportError: a Parquet file is given and pyarrow is not installed.
        ValueError: as in `from_frame`; the file holds no table, or no rows.
    """
    return from_frame(table_files.read_table(file, sep=sep), target, task=task)


def from_frame(frame: pd.DataFrame, target: str, *, task: str | None = None) -> Table:
    """Take one column of a table as the target, and the others as inputs.

    Numbers and booleans are inputs as they are. A column of text is coded by one indicator for each
    value, and dates by their years. Rows with a missing value, constant columns, and columns of
    more than 50 different texts are left out. The notes of the table say so.

    The target holds classes where it is text or booleans, or whole numbers with at most 10
    different values and on average at least 5 rows for each.

    Args:
        frame: the table.
        target: name of the target.
        task: "classification" or "regression", in place of this rule.

    Raises:
        ValueError: there is no such column; the target is constant, or text for a regression; no
            input varies; there are fewer than five complete rows, or infinite values.
    """
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"frame must be a pandas DataFrame, got {type(frame).__name__}")
    table_files.check_columns(frame, target)
    if task is not None:
        checks.one_of("task", task, _TASKS)
    frame = frame.rename(columns=str)
    notes: list[str] = []
    frame, columns = _columns(frame, target, notes)
    dropped, note = table_files.missing(frame)
    if note is not None:
        notes.append(note)
    whole = frame.loc[~dropped]
    if len(whole) < _FEWEST:
        raise ValueError(
            f"the table must have at least {_FEWEST} rows without missing values, got {len(whole)}"
        )
    coding = Columns(tuple(columns))
    values = coding.encode(whole).double() if columns else torch.zeros(len(whole), 0)
    centre, size = values.mean(0), values.std(0, correction=0)
    varies = size > 1e-12 * values.abs().amax(0)
    constant = [name for name, v in zip(coding.coded, varies.tolist(), strict=True) if not v]
    if constant:
        notes.append(f"constant columns were left out: {', '.join(constant)}")
    if not varies.any():
        raise ValueError(f"the table must have a column beside {target!r} that varies")
    y, classes, target_centre, target_size = _target(whole[target], task, notes)
    kept = tuple(varies.nonzero().flatten().tolist())
    scaling = ScaledColumns(
        coding, centre[varies], size[varies], kept, target, classes, target_centre,
        target_size,
    )  # fmt: skip
    return Table(scaling.encode(whole), y, scaling, tuple(notes))


def _columns(
    frame: pd.DataFrame, target: str, notes: list[str]
) -> tuple[pd.DataFrame, list[Column]]:
    """How the inputs are coded, and the table of those columns and of the target."""
    columns, left = [], []
    for name in frame.columns:
        if name == target:
            continue
        try:
            columns.append(Column.of(name, frame[name].dropna()))
        except (TypeError, ValueError) as err:  # too many texts, or values of another kind
            left.append(str(err))
    notes += [f"left out: {why}" for why in left]
    notes += [column.note for column in columns if column.note]
    return frame[[*(column.name for column in columns), target]], columns


def _target(
    column: pd.Series[Any], task: str | None, notes: list[str]
) -> tuple[Tensor, tuple[str, ...], float, float]:
    """The target, the names of its classes, its centre and its size."""
    name = str(column.name)
    count = column.nunique()
    if count == 1:
        raise ValueError(f"target {name!r} must vary, it is {column.iloc[0]} throughout")
    numbers = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    whole = numbers and bool((column == np.round(column)).all())
    if task is None:
        few = whole and count <= _CLASSES and len(column) >= _EACH * count
        task = _TASKS[0] if few or not numbers else _TASKS[1]
        if few:
            notes.append(
                f"{name!r} holds {count} different whole numbers, which are taken as classes; "
                "--task regression takes them as numbers"
            )
    if task == "regression":
        if not numbers:
            raise ValueError(
                f"target {name!r} must hold numbers for a regression, got {column.iloc[0]!r}"
            )
        y = torch.tensor(column.to_numpy(dtype=np.float64))
        centre, size = float(y.mean()), float(y.std(correction=0))
        return (y - centre) / size, (), centre, size
    if numbers and not whole:
        raise ValueError(
            f"target {name!r} must hold classes for a classification, got real numbers such as "
            f"{column.iloc[0]:g}"
        )
    labels = column.astype(np.int64) if numbers else column.astype(str)
    values = sorted(labels.unique())
    place = {value: i for i, value in enumerate(values)}
    if len(values) > len(column) / 2:
        raise ValueError(
            f"target {name!r} must hold classes, got {len(values)} different values in "
            f"{len(column)} rows"
        )
    return torch.tensor([place[v] for v in labels]), tuple(map(str, values)), 0.0, 1.0


def bishop(n: int = 50, seed: int = 0) -> Table:
    """The data y = x + cos πx + 0.1ε on [−1, 1], where an isotropic prior prefers a low degree."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.linspace(-1, 1, n, dtype=torch.float64)
    noise = 0.1 * torch.randn(n, generator=generator, dtype=torch.float64)
    y = x + torch.cos(math.pi * x) + noise
    return from_frame(pd.DataFrame({"x": x.numpy(), "y": y.numpy()}), "y")


@shows_progress
def select(
    table: Table,
    progress: ProgressOption = None,
    models: Any = None,
    targets: str | None = None,
) -> Selection:
    """Fit candidate models to a table and rank them by their evidence.

    Args:
        table: result of `read`, `from_frame` or `bishop`.
        progress: called as progress(done, expected, what); True shows a progress bar.
        models: function (inputs (n, D), likelihood) → models by name; None for the candidates of
            `bayesgen.select.candidates`.
        targets: for classes, "labels" (softmax and Laplace's approximation) or "one-hot" (codes
            with Gaussian noise, exact); None takes labels for at most 2000 rows times classes.

    Raises:
        ValueError: targets are asked for of a real target; no fit converged.

    Example:
        >>> selection = select(bishop(n=20))
        >>> "null" in selection.ranking.index
        True
    """
    y, likelihood, notes = _fitted(table, targets)
    default = small_candidates if likelihood != "gaussian" else candidates
    chosen = (default if models is None else models)(table.x, likelihood)
    posteriors: dict[str, Posterior] = {}
    failed: dict[str, str] = {}
    for done, (name, model) in enumerate(chosen.items()):
        if progress is not None:
            progress(done, len(chosen), name)
        try:
            fitted = model.fit(table.x, y)
        except NotConvergedError as err:
            failed[name] = str(err)
            continue
        why = _not_converged(fitted)
        if why is None:
            posteriors[name] = fitted
        else:
            failed[name] = why
    if not posteriors:
        raise ValueError(
            f"models must have a fit that converged, none did: {'; '.join(failed.values())}"
        )
    choice = Payment(f"the choice among {len(chosen)} candidates", math.log(len(chosen)))
    for posterior in posteriors.values():
        pay(posterior, {"model"}, choice)
    return Selection(table, posteriors, _ranked(posteriors, failed), failed, notes)


def _not_converged(posterior: Any) -> str | None:
    """Why the hyperparameters of a fit are not at a maximum of the evidence, or None."""
    if not math.isfinite(float(posterior.evidence.log_marginal_likelihood)):
        return "its evidence is not a number"
    modes = getattr(posterior, "modes", None)
    if isinstance(modes, pd.DataFrame) and "gradient" in modes and len(modes):
        steepest = float(modes["gradient"].iloc[0])
        # The Fisher information of the logarithm of a variance is half the number of targets.
        if steepest**2 > _GAIN * posterior.observed.y.numel():
            return f"the gradient of its log evidence still has an entry of {steepest:.2g} nats"
    return None


def _fitted(table: Table, targets: str | None) -> tuple[Tensor, Any, tuple[str, ...]]:
    """Targets as they are fitted, their likelihood, and notes."""
    if not table.classes:
        if targets is not None:
            raise ValueError(f"targets must not be given for a real target, got {targets!r}")
        return table.y, "gaussian", ()
    C = len(table.classes)
    small = len(table.y) * C <= _LABELS
    if targets is None:
        targets = "labels" if small else "one-hot"
    if checks.one_of("targets", targets, ("labels", "one-hot")) == "labels":
        says = "evidence of the labels: softmax and Laplace's approximation"
        return table.y, likelihoods.Softmax(C), (says,)
    says = "evidence of the one-hot codes of the labels under Gaussian noise"
    return likelihoods.one_hot(table.y, C, dtype=table.x.dtype), "gaussian", (says,)


def _ranked(posteriors: Mapping[str, Posterior], failed: Mapping[str, str]) -> pd.DataFrame:
    """The ranking, in which models that are the same one at these data count once."""
    same = same_models(posteriors, {name: p.evidence for name, p in posteriors.items()})
    ranking: pd.DataFrame = compare(
        posteriors, prior={name: 0.0 if name in same else 1.0 for name in posteriors}
    )
    if failed:
        rows = pd.DataFrame(math.nan, index=list(failed), columns=ranking.columns, dtype=float)
        rows = rows.astype({c: object for c in ranking.columns if ranking[c].dtype == object})
        for column in ("same_as", "excludes"):
            if column in rows:
                rows[column] = ""
        ranking = pd.concat([pd.DataFrame(ranking), rows])
        ranking["failed"] = ["did not converge" if n in failed else "" for n in ranking.index]
        ranking.index.name = "model"
    return ranking


def best(selection: Selection) -> str:
    """Name of the candidate of largest evidence."""
    return next(str(n) for n in selection.ranking.index if n != NULL)


def profile(selection: Selection, name: str, column: int, points: int = 200) -> pd.DataFrame:
    """A model's prediction along one input, with the others at their means, in the table's units.

    Returns:
        Columns x, mean, low and high; low and high are ± 2 standard deviations of an observation.
        For classes, x and the columns of `bayesgen.select.predictions.predictions`.
    """
    table, posterior = selection.table, selection.posteriors[name]
    u = torch.linspace(float(table.x[:, column].min()), float(table.x[:, column].max()), points)
    x = torch.zeros(points, table.x.shape[1], dtype=table.x.dtype)
    x[:, column] = u.to(x)
    found = predictions(posterior, x, _TWO_SD, table.columns)
    units = x[:, column] * table.columns.size[column] + table.columns.centre[column]
    found.insert(0, "x", units.numpy())
    return found.rename(columns={"lower": "low", "upper": "high"})

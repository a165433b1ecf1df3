"""Fit candidate models to a user's table and rank them by their evidence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gpytorch
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bayesgen._internal.progress import Progress
from bayesgen.features import priors
from bayesgen.models import Fourier, GaussianProcess, Polynomial, Posterior
from bayesgen.posterior.traced import pay
from bayesgen.provenance import Payment
from bayesgen.select.compare import compare

# Smallest number of rows; with fewer, a ranking reflects only the priors.
_FEWEST = 5
# Largest number of features of a polynomial with products of different inputs.
_FEATURES = 2000


@dataclass(frozen=True)
class Table:
    """Standardised inputs and target of a table, with what is needed to undo the scaling.

    Attributes:
        x: inputs, (n, D), each column of mean 0 and standard deviation 1.
        y: target, (n,), of mean 0 and standard deviation 1.
        inputs: names of the input columns.
        target: name of the target.
        centre, size: mean and standard deviation of each input, (D,).
        target_centre, target_size: mean and standard deviation of the target.
        notes: descriptions of what was left out.
    """

    x: Tensor
    y: Tensor
    inputs: tuple[str, ...]
    target: str
    centre: Tensor
    size: Tensor
    target_centre: float
    target_size: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Selection:
    """Candidate models fitted to one table, with their ranking.

    Attributes:
        table: the data.
        posteriors: posterior of each candidate, by name.
        ranking: result of `bayesgen.compare`.
    """

    table: Table
    posteriors: dict[str, Posterior]
    ranking: pd.DataFrame


def read(file: Path, target: str) -> Table:
    """Read a CSV file: the column `target` is the target, other numeric columns are inputs.

    Rows with a missing value are left out, as are constant columns and columns that are not
    numbers. The notes of the table list them.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: there is no such column; the target is text or constant; there are no numeric
            inputs, fewer than five complete rows, or infinite values.
    """
    if not file.is_file():
        raise FileNotFoundError(f"csv must be a file, {file} is not")
    try:
        frame = pd.read_csv(file)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as err:
        raise ValueError(f"csv must hold a table with a header line, {file}: {err}") from None
    return from_frame(frame, target)


def from_frame(frame: pd.DataFrame, target: str) -> Table:
    """Build a table from a DataFrame; see `read` for the rules and errors."""
    if target not in frame.columns:
        raise ValueError(
            f"target must be a column of the table ({', '.join(map(str, frame.columns))}), "
            f"got {target!r}"
        )
    if not pd.api.types.is_numeric_dtype(frame[target]):
        example = next(iter(frame[target].dropna()), "nothing")
        raise ValueError(f"target {target!r} must hold numbers, got text such as {example!r}")
    numeric = [c for c in frame.columns if c != target and _is_number(frame[c])]
    notes = []
    text = [str(c) for c in frame.columns if c != target and not _is_number(frame[c])]
    if text:
        notes.append(f"left out columns that are not numbers: {', '.join(text)}")
    whole = frame[[*numeric, target]].dropna()
    if len(whole) < len(frame):
        notes.append(f"left out {len(frame) - len(whole)} row(s) with missing values")
    if len(whole) < _FEWEST:
        raise ValueError(
            f"the table must have at least {_FEWEST} rows without missing values, got {len(whole)}"
        )
    constant = [c for c in numeric if whole[c].nunique() == 1]
    if constant:
        notes.append(f"left out constant columns: {', '.join(map(str, constant))}")
    numeric = [c for c in numeric if c not in constant]
    if not numeric:
        raise ValueError(f"the table must have a numeric column beside {target!r} that varies")
    if whole[target].nunique() == 1:
        raise ValueError(f"target {target!r} must vary, it is {whole[target].iloc[0]} throughout")
    values = torch.tensor(whole[[*numeric, target]].to_numpy(dtype=np.float64))
    if not torch.isfinite(values).all():
        raise ValueError("the table must hold finite numbers, got infinite ones")
    centre, size = values.mean(0), values.std(0, correction=0)
    scaled = (values - centre) / size
    return Table(
        scaled[:, :-1],
        scaled[:, -1],
        tuple(map(str, numeric)),
        target,
        centre[:-1],
        size[:-1],
        float(centre[-1]),
        float(size[-1]),
        tuple(notes),
    )


def bishop(n: int = 50, seed: int = 0) -> Table:
    """The data y = x + cos πx + 0.1ε on [−1, 1], where an isotropic prior prefers a low degree."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.linspace(-1, 1, n, dtype=torch.float64)
    noise = 0.1 * torch.randn(n, generator=generator, dtype=torch.float64)
    y = x + torch.cos(math.pi * x) + noise
    return from_frame(pd.DataFrame({"x": x.numpy(), "y": y.numpy()}), "y")


def candidates(x: Tensor) -> dict[str, Any]:
    """Candidate models for inputs (n, D): polynomials, Fourier series, Gaussian processes."""
    D = x.shape[1]
    dependent = ("scale", "decay", "noise")
    chosen = (*dependent, "order")

    def polynomial(degree: int, *args: Any, **options: Any) -> Any:
        products = math.comb(D + degree, D) <= _FEATURES
        return Polynomial(degree, *args, kind="legendre", interactions=products, **options)

    models = {
        "linear": polynomial(1),
        "polynomial, best degree": polynomial(10, hyperparameters=chosen),
        "polynomial 30, decaying": polynomial(30, priors.geometric(2.0)),
        "Fourier 30, decaying": Fourier(30, priors.power(2.0)),
        "GP RBF": GaussianProcess(gpytorch.kernels.RBFKernel()),
        "GP Matérn 5/2": GaussianProcess(gpytorch.kernels.MaternKernel(nu=2.5)),
    }
    if D > 1:
        ard = gpytorch.kernels.RBFKernel(ard_num_dims=D)
        models["GP RBF, ARD"] = GaussianProcess(ard)
    return models


def select(table: Table, progress: Progress | None = None) -> Selection:
    """Fit the candidate models to a table and rank them by their evidence.

    Args:
        table: result of `read`, `from_frame` or `bishop`.
        progress: called as progress(done, expected, what).

    Example:
        >>> selection = select(bishop(n=20))
        >>> "null" in selection.ranking.index
        True
    """
    models = candidates(table.x)
    posteriors = {}
    for done, (name, model) in enumerate(models.items()):
        if progress is not None:
            progress(done, len(models), name)
        posteriors[name] = model.fit(table.x, table.y)
    choice = Payment(f"the choice among {len(models)} candidates", math.log(len(models)))
    for posterior in posteriors.values():
        pay(posterior, {"model"}, choice)
    return Selection(table, posteriors, compare(posteriors))


def profile(selection: Selection, name: str, column: int, points: int = 200) -> pd.DataFrame:
    """A model's prediction along one input, with the others at their means, in the table's units.

    Returns:
        Columns x, mean, low and high; low and high are ± 2 standard deviations of an observation.
    """
    table, posterior = selection.table, selection.posteriors[name]
    u = torch.linspace(float(table.x[:, column].min()), float(table.x[:, column].max()), points)
    x = torch.zeros(points, table.x.shape[1], dtype=table.x.dtype)
    x[:, column] = u.to(x)
    predicted: Any = posterior.predict(x)
    mean, sd = predicted.mean, predicted.stddev
    back: Callable[[Tensor], Tensor] = lambda v: v * table.target_size + table.target_centre  # noqa: E731
    columns = {
        "x": x[:, column] * table.size[column] + table.centre[column],
        "mean": back(mean),
        "low": back(mean - 2 * sd),
        "high": back(mean + 2 * sd),
    }
    return pd.DataFrame({key: value.numpy() for key, value in columns.items()})


def _is_number(column: pd.Series[Any]) -> bool:
    is_number: bool = pd.api.types.is_numeric_dtype(column)
    return is_number

"""Fit a model to a table, to rows with missing values, or to standardised data.

`GaussianProcess.fit` and `LinearModel.fit` call themselves through this module where a user passes
a DataFrame, or asks for one of the other two. The model itself sees finite arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen._internal.words import without_rows
from bayesgen.data.columns import Columns, is_table
from bayesgen.likelihoods.likelihood import Likelihood
from bayesgen.models.standardised import ScaledTable, Scaling, StandardisedPosterior
from bayesgen.posterior.posterior import Posterior


@dataclass(frozen=True)
class Reading:
    """How the data of a fit are read.

    Args:
        standardise: whether the columns of x and real targets get mean 0 and standard deviation 1.
        missing: "drop" leaves out rows with missing values, "refuse" raises an error.

    Raises:
        TypeError, ValueError: an argument is something else.
    """

    standardise: bool
    missing: str

    def __post_init__(self) -> None:
        checks.flag("standardise", self.standardise)
        checks.one_of("missing", self.missing, ("refuse", "drop"))

    def needed(self, x: Any) -> bool:
        """Whether data have to be read before the model can take them."""
        return is_table(x) or self.standardise or self.missing != "refuse"

    def fitted(
        self,
        fit: Callable[[Any, Any], Any],
        x: Any,
        y: Any,
        likelihood: Likelihood | None,
        *,
        noise_kept: bool,
    ) -> Any:
        """Fit a model to data that have to be read first.

        Args:
            fit: the fit of the model, a function of arrays x and y.
            x, y: data as the user gave them.
            likelihood: the likelihood, or None for Gaussian noise.
            noise_kept: whether the model has a noise variance that is not learnt.

        Returns:
            The posterior, or a `StandardisedPosterior`, whose `columns`, `target` and `notes`
            describe the table.

        Raises:
            TypeError, ValueError: the data cannot be read; the message names what is wrong.
        """
        if self.standardise and noise_kept:
            raise ValueError(
                "standardise must be False where a noise variance is kept, which is in the units "
                "of y²: standardise y yourself and divide the noise by its variance, or let it be "
                "learnt"
            )
        columns, notes = None, []
        _check_index(x, y)
        if self.missing == "drop":
            x, y, dropped = _without_missing(x, y)
            if dropped:
                notes.append(without_rows(dropped))
        if is_table(x):
            columns = Columns.of(x)
            notes += columns.notes
            x = columns.encode(x, "x")
        if not self.standardise:
            posterior = fit(x, y)
        else:
            posterior = _standardised(fit, x, y, likelihood)
            notes.append("columns of x were scaled to mean 0 and standard deviation 1")
        posterior.columns, posterior.notes = columns, tuple(notes)
        if columns is not None:
            posterior._names = columns.coded
            if isinstance(posterior, StandardisedPosterior):
                inner: Any = posterior.standardised
                inner._names = columns.coded
                inner.columns = ScaledTable(columns, posterior.x_scaling)
        name = getattr(y, "name", None)
        posterior.target = name if isinstance(name, str) else ""
        return posterior


def _standardised(
    fit: Callable[[Any, Any], Posterior], x: Any, y: Any, likelihood: Likelihood | None
) -> StandardisedPosterior:
    labels = likelihood is not None and likelihood.labels
    x, y = checks.data(x, y, labels=labels)
    x_scaling = Scaling.of_columns(x)
    if likelihood is not None:
        if likelihood.density:
            raise ValueError(
                "standardise must be False with a "
                f"{likelihood.name} likelihood of real targets; standardise them yourself, and add "
                "−n log s to the evidence, with s their standard deviation"
            )
        return StandardisedPosterior(fit(x_scaling.inward(x), y), x, None, x_scaling, None)
    y = checks.targets("y", y, len(x), like=x)
    y_scaling = Scaling.of_targets(y)
    found = fit(x_scaling.inward(x), y_scaling.inward(y))
    return StandardisedPosterior(found, x, y, x_scaling, y_scaling)


def _check_index(x: Any, y: Any) -> None:
    """Check that a table and a series with the same row labels have them in the same order."""
    ours, theirs = getattr(x, "index", None), getattr(y, "index", None)
    if not is_table(x) or callable(theirs) or theirs is None or ours is None:
        return
    if len(ours) == len(theirs) and not ours.equals(theirs):
        both = (
            ours.is_unique and theirs.is_unique and ours.sort_values().equals(theirs.sort_values())
        )
        if both:
            raise ValueError(
                "y must have its rows in the order of x, but their row labels are in different "
                "orders; rows count by position: pass y.loc[x.index]"
            )


def _without_missing(x: Any, y: Any) -> tuple[Any, Any, int]:
    """Data without rows in which a value is missing, and the number of rows left out."""
    of_x, of_y = _missing(x, 0), _missing(y, _row_axis(y))
    if of_x.shape != of_y.shape:
        raise ValueError(
            f"y must have one row for each of the {len(of_x)} inputs, got {len(of_y)} rows"
        )
    holes = of_x | of_y
    if not holes.any():
        return x, y, 0
    if holes.all():
        raise ValueError("x and y must have a row without missing values, got none")
    kept = ~holes
    return _rows(x, kept, 0), _rows(y, kept, _row_axis(y)), int(holes.sum())


def _row_axis(y: Any) -> int:
    return 1 if getattr(y, "ndim", 1) == 3 else 0


def _missing(values: Any, axis: int) -> np.ndarray:
    """Whether each row has a missing value, (n,)."""
    import pandas as pd

    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    found = np.asarray(pd.isna(values if hasattr(values, "dtypes") else np.asarray(values)))
    others = tuple(i for i in range(found.ndim) if i != axis)
    return np.asarray(found.any(axis=others))


def _rows(values: Any, kept: np.ndarray, axis: int) -> Any:
    if isinstance(values, Tensor):
        return values.index_select(axis, torch.from_numpy(kept.nonzero()[0]).to(values.device))
    if hasattr(values, "iloc"):
        return values.iloc[kept]
    return np.compress(kept, np.asarray(values), axis=axis)

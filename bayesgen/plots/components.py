"""Figure of the additive parts of a Gaussian process."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bayesgen._internal import checks
from bayesgen.plots.style import BLUE, tidy


def components(parts: Any, column: int | None = None) -> Figure:
    """Plot the posterior mean and two standard deviations of each part along one input.

    A part that depends on other columns of the inputs too is drawn as points.

    Args:
        parts: result of `posterior.components(x_new)` of one output.
        column: column of the inputs to draw along; None takes the first column on which the part
            depends.

    Raises:
        TypeError: parts are not of this kind.
        ValueError: there are several outputs, or no such column.

    Example:
        >>> import torch, bayesgen as bg
        >>> t = torch.linspace(0, 6, 60, dtype=torch.float64)
        >>> y = t + torch.sin(6 * t) + 0.1 * torch.cos(91 * t)
        >>> found = bg.GaussianProcess(bg.kernels.parsed("linear + periodic")).fit(t, y)
        >>> len(components(found.components(t)).axes)
        2
    """
    if not hasattr(parts, "sentences"):
        raise TypeError(
            f"parts must be a result of posterior.components(x_new), got {type(parts).__name__}"
        )
    x = parts.x.double().cpu().numpy()
    d = x.shape[1]
    if column is not None and not 0 <= checks.whole("column", column, 0) < d:
        raise ValueError(f"column must be in 0..{d - 1}, got {column}")
    if any(part.mean.ndim > 1 for part in parts.values()):
        raise ValueError(
            "parts must be of one output, got several; plot the components of a fit to one of them"
        )
    used = {name: parts.columns.get(name, tuple(range(d))) for name in parts}
    along = {name: (used[name] or (0,))[0] if column is None else column for name in parts}
    one = len(set(along.values())) == 1
    figure = Figure(figsize=(7.0, 1.2 + (1.9 if one else 2.2) * len(parts)), layout="constrained")
    panels = figure.subplots(len(parts), 1, sharex=one, squeeze=False)[:, 0]
    for axes, (name, part) in zip(panels, parts.items(), strict=True):
        order = np.argsort(x[:, along[name]], kind="stable")
        grid = x[order, along[name]]
        mean = part.mean.double().cpu().numpy()[order]
        sd = part.stddev.double().cpu().numpy()[order]
        if set(used[name]) <= {along[name]}:
            axes.plot(grid, mean, color=BLUE)
            axes.fill_between(grid, mean - 2 * sd, mean + 2 * sd, color=BLUE, alpha=0.2, lw=0)
        else:
            axes.errorbar(grid, mean, 2 * sd, fmt=".", color=BLUE, ecolor=(BLUE, 0.2))
        axes.set_title(textwrap.fill(f"{name}: {parts.sentences[name]}", 80), fontsize=9)
        axes.set_ylabel("f, units of y")
        if not one or axes is panels[-1]:
            axes.set_xlabel("x" if d == 1 else f"x{along[name]}")
        tidy(axes)
    return figure

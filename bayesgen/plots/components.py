"""Figure of the additive parts of a Gaussian process."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bayesgen.plots.style import BLUE, tidy


def components(parts: Any, column: int = 0) -> Figure:
    """Plot the posterior mean and two standard deviations of each part along one input.

    Args:
        parts: result of `posterior.components(x_new)` of one output.
        column: column of the inputs to draw along.

    Raises:
        ValueError: there are several outputs, or no such column.

    Example:
        >>> import torch, bayesgen as bg
        >>> t = torch.linspace(0, 6, 60, dtype=torch.float64)
        >>> y = t + torch.sin(6 * t) + 0.1 * torch.cos(91 * t)
        >>> found = bg.GaussianProcess(bg.kernels.parsed("linear + periodic")).fit(t, y)
        >>> len(components(found.components(t)).axes)
        2
    """
    x = parts.x.double().cpu().numpy()
    if not 0 <= column < x.shape[1]:
        raise ValueError(f"column must be in 0..{x.shape[1] - 1}, got {column}")
    if any(part.mean.ndim > 1 for part in parts.values()):
        raise ValueError("parts must be of one output")
    order = np.argsort(x[:, column])
    grid = x[order, column]
    figure = Figure(figsize=(7.0, 1.2 + 1.9 * len(parts)), layout="constrained")
    panels = figure.subplots(len(parts), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, part) in zip(panels, parts.items(), strict=True):
        mean = part.mean.double().cpu().numpy()[order]
        sd = part.stddev.double().cpu().numpy()[order]
        axes.plot(grid, mean, color=BLUE)
        axes.fill_between(grid, mean - 2 * sd, mean + 2 * sd, color=BLUE, alpha=0.2, lw=0)
        axes.set_title(textwrap.fill(f"{name}: {parts.sentences[name]}", 80), fontsize=9)
        axes.set_ylabel("f, units of y")
        tidy(axes)
    panels[-1].set_xlabel("x" if x.shape[1] == 1 else f"x{column}")
    return figure

"""Some of the points of a data set, spread out and in groups of neighbours."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# Share of a subset that is spread over all points; the rest are groups of neighbours.
_SPREAD = 0.6
# Number of points of a group of neighbours.
_GROUP = 16


def subset(x: Tensor, size: int, random: np.random.Generator) -> Tensor | None:
    """Indices of a subset that shows long and short distances, or None where all points are used.

    Args:
        x: inputs, (n, d).
        size: number of points of the subset; data sets of up to a quarter more are used whole.
        random: source of the random choice.

    Example:
        >>> rows = subset(torch.rand(1000, 2), 100, np.random.default_rng(0))
        >>> len(rows)
        100
    """
    n = len(x)
    if n <= 1.25 * size:
        return None
    chosen = torch.zeros(n, dtype=torch.bool)
    chosen[torch.from_numpy(random.permutation(n)[: int(_SPREAD * size)])] = True
    scaled = x.detach().double().cpu()
    spans = scaled.amax(0) - scaled.amin(0)
    scaled = scaled / torch.where(spans > 0, spans, 1.0)
    while (missing := size - int(chosen.sum())) > 0:
        centre = scaled[int(random.integers(n))]
        distance = (scaled - centre).square().sum(1)
        distance[chosen] = torch.inf
        chosen[distance.argsort()[: min(_GROUP, missing)]] = True
    return chosen.nonzero()[:, 0].to(x.device)

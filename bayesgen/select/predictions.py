"""Predictions of a posterior as a table, in the units and classes of the table of its fit."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import Tensor

from bayesgen.data.scaled_columns import ScaledColumns
from bayesgen.pacbayes import expected_losses


def predictions(
    posterior: Any, x: Tensor, level: float = 0.95, columns: ScaledColumns | None = None
) -> pd.DataFrame:
    """Predictions at new inputs.

    Args:
        posterior: posterior of one task.
        x: inputs as the model takes them, (n, d).
        level: probability of the intervals.
        columns: units of the targets and names of the classes; None for the model's own.

    Returns:
        For class labels `label` and a column `p(CLASS)` with the probability of each class. Where
        one-hot codes of labels were fitted, it is the probability that the latent function of the
        class is the largest. For other targets `mean` and `sd` of a new observation, and `lower`
        and `upper`, the ends of its central interval; with several outputs, of each output.

    Raises:
        ValueError: the posterior is of a batch of tasks; the inputs do not fit the model.
    """
    if posterior.observed.batched:
        raise ValueError(
            f"the model must be of one task, it is of {len(posterior.observed.y)}: save "
            "posterior.task(0)"
        )
    classes = tuple(map(str, posterior.classes or ())) if columns is None else columns.classes
    if posterior.observed.likelihood.labels:
        return _labelled(posterior.predict(x).probs, classes)
    if columns is not None and classes:
        latent = posterior.predict(x, latent=True)
        variance = latent.variance.mean(-1, keepdim=True)
        chances = [
            1 - expected_losses.zero_one(latent.mean, variance, torch.full((len(x),), c))
            for c in range(len(classes))
        ]
        return _labelled(torch.stack(chances, 1), classes)
    predicted, interval = posterior.predict(x), posterior.interval(x, level)
    centre, size = (0.0, 1.0) if columns is None else (columns.target_centre, columns.target_size)
    parts = {
        "mean": predicted.mean * size + centre,
        "sd": predicted.variance.sqrt() * size,
        "lower": interval.lower * size + centre,
        "upper": interval.upper * size + centre,
    }
    found: dict[str, Any] = {}
    for name, values in parts.items():
        outputs = values.detach().cpu().reshape(len(x), -1)
        for k in range(outputs.shape[1]):
            found[name if outputs.shape[1] == 1 else f"{name}{k}"] = outputs[:, k].numpy()
    return pd.DataFrame(found)


def _labelled(chances: Tensor, classes: tuple[str, ...]) -> pd.DataFrame:
    """Classes and their probabilities, (n, C), or (n,) for the second of two."""
    table = chances.detach().cpu()
    if table.ndim == 1 or table.shape[1] == 1:
        table = torch.stack([1 - table.reshape(-1), table.reshape(-1)], 1)
    names = classes or tuple(str(c) for c in range(table.shape[1]))
    found: dict[str, Any] = {"label": [names[i] for i in table.argmax(1).tolist()]}
    found |= {f"p({name})": table[:, c].numpy() for c, name in enumerate(names)}
    return pd.DataFrame(found)

"""Data that a fitted model keeps, beside those that the user may give again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bayesgen._internal import checks


def same_values(name: str, kept: Tensor, given: Any) -> Tensor:
    """The user's own values where they are given, which must be those that the model keeps.

    A model that scales its data keeps them to rounding only, and two models of the same data can
    be compared only where their targets are equal.

    Args:
        name: name of the argument.
        kept: the values that the model keeps.
        given: the values of the user, or None.

    Raises:
        TypeError, ValueError: the values are not those of the fit.
    """
    if given is None:
        return kept
    own = checks.owned(checks.as_tensor(name, given)).to(kept)
    if own.ndim != kept.ndim and own.squeeze(-1).shape == kept.squeeze(-1).shape:
        own = own.reshape(kept.shape)  # (n,) and (n, 1) hold the same values
    if own.shape != kept.shape:
        raise ValueError(
            f"{name} must be the data of the fit, of shape {tuple(kept.shape)}, got "
            f"{tuple(own.shape)}"
        )
    size = float(kept.abs().max())
    if not torch.allclose(own, kept, rtol=1e-6, atol=1e-6 * size):
        raise ValueError(f"{name} must be the data of the fit, but the model keeps other values")
    return own

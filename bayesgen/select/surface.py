"""The evidence of a linear model on a grid of order, outputscale and noise variance."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import xarray as xr

from bayesgen._internal import checks
from bayesgen.covariance.linear import FeatureGram
from bayesgen.models.linear.model import LinearModel, nested


def surface(
    model: LinearModel,
    x: Any,
    y: Any,
    *,
    scales: Any,
    noises: Any,
    orders: Iterable[int] | None = None,
) -> xr.DataArray:
    """Log marginal likelihood for every combination of order, outputscale and noise.

    It takes one QR decomposition for all orders, one small SVD for each order, and O(n) for each
    pair (s, σ²).

    Args:
        model: a linear model with Gaussian noise; the decay of its prior is kept.
        x: inputs, (n, D) or (n,).
        y: targets, (n,) or (n, C).
        scales: outputscales s, (S,), > 0.
        noises: noise variances σ², (N,), > 0.
        orders: largest orders to include; None takes every order of the basis.

    Returns:
        A DataArray in nats, dims (order, scale, noise).

    Raises:
        ValueError: the model has another likelihood; a setting is not positive; an order is not one
            of the basis.

    Example:
        >>> import bayesgen as bg
        >>> x = torch.linspace(-1, 1, 30, dtype=torch.float64)
        >>> surface(bg.Polynomial(4), x, x**2, scales=[0.1, 1.0], noises=[0.01]).sizes["order"]
        5
    """
    if not isinstance(model, LinearModel):
        raise TypeError(f"model must be a LinearModel, got {type(model).__name__}")
    if model.likelihood is not None:
        raise ValueError(f"model must have Gaussian noise, got {model.likelihood.name}")
    x = checks.inputs("x", x)
    y = checks.targets("y", y, len(x), like=x)
    if y.ndim == 3:
        raise ValueError(f"y must have shape (n,) or (n, C), got {tuple(y.shape)}")
    s = checks.positive("scales", checks.reals("scales", scales).to(x)).reshape(-1)
    v = checks.positive("noises", checks.reals("noises", noises).to(x)).reshape(-1)
    gram = FeatureGram(model.basis.on(x), x, model.prior)
    known = sorted(set(gram.features.orders.tolist()))
    chosen = known if orders is None else sorted(orders)
    if not chosen or chosen[0] < known[0] or chosen[-1] > known[-1]:
        raise ValueError(f"orders must lie in {known[0]}..{known[-1]}, got {chosen}")
    ratio = v / s[:, None]
    constant = len(x) * np.log(2 * np.pi)
    result = x.new_empty(len(chosen), len(s), len(v))
    for i, spectrum in enumerate(nested(gram, y.reshape(1, len(x), -1), chosen)):
        # With sλ + σ² = s(λ + ρ), two sums are needed for each distinct ρ.
        shifts, where = torch.unique(ratio, return_inverse=True)
        quadratic = spectrum.target_measure().resolvent(shifts)[0][where]
        shifted = (spectrum.density.nodes[:, None] + shifts).log_()
        logdet = (spectrum.density.weights @ shifted)[where]
        each = logdet + len(x) * s.log()[:, None] + constant
        result[i] = -0.5 * (quadratic / s[:, None] + spectrum.outputs * each)
    return xr.DataArray(
        result.double().cpu().numpy(),
        dims=("order", "scale", "noise"),
        coords={"order": chosen, "scale": s.double().numpy(), "noise": v.double().numpy()},
        name="log_marginal_likelihood",
        attrs={"units": "nats", "long_name": "log marginal likelihood"},
    )

"""Experiment: contraction of the posterior and generalisation gap against the number of data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from bayesgen import plots
from bayesgen._internal import checks
from bayesgen.experiments.experiment import claim, experiment, provenance
from bayesgen.experiments.least_squares import LeastSquares
from bayesgen.features.bases import RandomFeatures

SIZES = (5, 10, 20, 50, 100, 200, 500, 1000, 2000)
MODELS = ("inputs of sd 1/√j", "RBF features of 2 inputs")
_TESTED = 1000
_VARIABLES = {
    "effective_dimension": ("1", "effective dimension N_eff"),
    "log_volume": ("nats", "log volume of the posterior relative to the prior"),
    "train_mse": ("1", "mean square error on training data"),
    "test_mse": ("1", "mean square error on new data"),
    "optimism": ("1", "2σ²N_eff/n"),
}


@experiment(plot=plots.contraction, quick={"repetitions": 5, "sizes": SIZES[:-1]})
def posterior_contraction(
    sizes: Sequence[int] = SIZES,
    *,
    features: int = 200,
    noise: float = 0.1,
    repetitions: int = 20,
    seed: int = 0,
    command: str | None = None,
) -> xr.Dataset:
    """With more data the effective dimension rises, the posterior contracts and the gap falls.

    Bayesian linear models y = Φw + ε with p features, w ~ N(0, I) and ε ~ N(0, σ²I), on data drawn
    from the model itself. The p features are either inputs of standard deviation 1/√j, j = 1 … p,
    or random Fourier features of an RBF kernel in two inputs, scaled by √p. The log volume of the
    posterior relative to the prior is ½ log(|Σ_post|/|Σ_prior|) = −½ Σ log(1 + λᵢ/σ²), with the
    eigenvalues λ of ΦᵀΦ, and N_eff = Σ λᵢ/(λᵢ + σ²). The generalisation gap is the difference of
    the mean square errors of the posterior mean on new and on training data. The sets of training
    data are nested. For fixed inputs, and errors at the same inputs with new noise, the expected
    gap would be 2σ²N_eff/n (Mallows' Cₚ); this value is in the result too.

    The source describes this in words; the models and their sizes are chosen for this study.

    Args:
        sizes: numbers of observations, increasing.
        features: p, the number of weights.
        noise: noise variance σ².
        repetitions: number of draws of inputs, weights and noise.
        seed: seed of these draws.
        command: command to record in the result; None records this call.

    Returns:
        Dataset of dims (model, n, repetition): effective_dimension, log_volume (nats), train_mse,
        test_mse, optimism.

    Raises:
        ValueError: a number is out of range; sizes do not increase.

    Source: Wilson (2025), section 3; Maddox et al. (2020), section 4.

    Example:
        >>> result = posterior_contraction([5, 50, 500], features=30, repetitions=3)
        >>> bool((result.effective_dimension.diff("n") > 0).all())
        True
    """
    counts = checks.increasing("sizes", sizes, 2, count=2)
    p, repetitions = checks.whole("features", features, 2), checks.whole("repetitions", repetitions)
    noise = checks.positive_number("noise", noise)
    generator = torch.Generator().manual_seed(checks.seed(seed))
    rows = []
    for model in MODELS:
        Phi = _features(model, p, repetitions, counts[-1] + _TESTED, generator, seed)
        w = torch.randn(repetitions, p, 1, generator=generator, dtype=Phi.dtype)
        f = Phi @ w
        y = f + noise**0.5 * torch.randn(f.shape, generator=generator, dtype=Phi.dtype)
        rows.append([_cell(Phi, y, n, noise) for n in counts])
    table = np.array(rows)
    result = xr.Dataset(
        {
            name: (
                ("model", "n", "repetition"),
                table[:, :, i],
                {"units": units, "long_name": words},
            )
            for i, (name, (units, words)) in enumerate(_VARIABLES.items())
        },
        coords={"model": list(MODELS), "n": counts, "repetition": np.arange(repetitions)},
        attrs={"title": "Posterior contraction", "features": p, "noise": noise},
    )
    result.attrs |= _claim(result)
    words = f"posterior_contraction({counts}, features={p}, {noise=}, {repetitions=}, {seed=})"
    return result.assign_attrs(**provenance(command or words))


def _features(
    model: str, p: int, repetitions: int, rows: int, generator: torch.Generator, seed: int
) -> Tensor:
    """Features of training and test inputs, (repetitions, rows, p), of trace about p or Σ 1/j."""
    if model == MODELS[0]:
        Phi = torch.randn(repetitions, rows, p, generator=generator, dtype=torch.float64)
        return Phi * torch.arange(1, p + 1) ** -0.5
    x = 2 * torch.rand(repetitions * rows, 2, generator=generator, dtype=torch.float64) - 1
    basis = RandomFeatures(p, lengthscale=0.5, activation="cos", seed=seed)
    return basis.on(x)(x).reshape(repetitions, rows, p)


def _cell(Phi: Tensor, y: Tensor, n: int, noise: float) -> np.ndarray:
    """Values of `_VARIABLES` for the first n rows, (variables, repetitions)."""
    model = LeastSquares(Phi[:, :n], y[:, :n])
    dimension = model.effective_dimension(noise)
    gaps = Phi @ model.weights(noise) - y
    train, new = gaps[:, :n], gaps[:, -_TESTED:]
    values = [
        dimension,
        -0.5 * (model.eigenvalues / noise).log1p().sum(-1),
        train.square().mean((1, 2)),
        new.square().mean((1, 2)),
        2 * noise * dimension / n,
    ]
    found: np.ndarray = torch.stack(values).numpy()
    return found


def _claim(result: xr.Dataset) -> dict[str, str]:
    """Attributes with the source's claim and this result."""
    mean = result.mean("repetition")
    gap = mean.test_mse - mean.train_mse
    first, last = mean.isel(n=0), mean.isel(n=-1)
    parts = [
        f"N_eff goes from {float(first.effective_dimension.sel(model=name)):.1f} to "
        f"{float(last.effective_dimension.sel(model=name)):.1f}, the log volume from "
        f"{float(first.log_volume.sel(model=name)):.0f} to "
        f"{float(last.log_volume.sel(model=name)):.0f} nats and the gap from "
        f"{float(gap.sel(model=name)[0]):.3f} to {float(gap.sel(model=name)[-1]):.4f} ({name})"
        for name in result.model.values
    ]
    held = [
        bool((mean.effective_dimension.diff("n") > 0).all()),
        bool((mean.log_volume.diff("n") < 0).all()),
        bool((gap.isel(n=-1) < 0.2 * gap.isel(n=0)).all()),
    ]
    return claim(
        "As data arrive the posterior contracts: the effective dimension rises, the posterior "
        "takes a smaller part of the prior's volume, and the generalisation gap closes.",
        f"From n = {int(result.n[0])} to {int(result.n[-1])}, with p = {result.features}: "
        + "; ".join(parts)
        + ".",
        "yes" if all(held) else "partly" if any(held) else "no",
    )

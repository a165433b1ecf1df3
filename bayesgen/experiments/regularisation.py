"""Experiments with high-degree polynomials under penalties that grow with the order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from bayesgen import plots
from bayesgen.experiments.experiment import experiment, provenance
from bayesgen.features import bases, priors
from bayesgen.models.linear.presets import Polynomial

# Weight of Σ 2ʲ wⱼ² relative to ‖y − Φw‖²; it is small enough to interpolate 16 noise values.
PENALTY = 1e-9


def _noise(x: Tensor) -> Tensor:
    return torch.randn(len(x), generator=torch.Generator().manual_seed(0), dtype=x.dtype)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sin(x) cos(x²)": lambda x: torch.sin(x) * torch.cos(x**2),
    "x + cos(πx)": lambda x: x + torch.cos(math.pi * x),
    "N(0, 1) noise": _noise,
}


@experiment(plot=plots.flexible_polynomial)
def flexible_polynomial(
    *, n: int = 16, degree: int = 150, command: str | None = None
) -> xr.Dataset:
    """Fit a polynomial of degree 150 with penalty Σ 2ʲ wⱼ² to structured data and to noise.

    It fits structured data well and interpolates noise. The features are Legendre polynomials on x
    in [−2.5, 2.5]. The posterior mean of `LinearModel` with prior variances 2⁻ʲ and noise variance
    `PENALTY` is the penalised least-squares fit.

    Args:
        n: number of observations, evenly spaced.
        degree: degree of the polynomial.
        command: command to record in the result; None records this call.

    Returns:
        Dataset with `y` (function, row), `fitted` and `truth` (function, point; NaN where the data
        are noise), and `train_rmse` (function).

    Source: Wilson (2025), figure 1 (a)–(c). The paper uses raw powers; at this degree and beyond
    |x| = 1 they leave no correct digit, unlike Legendre polynomials.

    Example:
        >>> result = flexible_polynomial(n=12, degree=40)
        >>> bool((result.train_rmse < 0.01).all())
        True
    """
    x = torch.linspace(-2.5, 2.5, n, dtype=torch.float64)
    fine = torch.linspace(-2.5, 2.5, 500, dtype=torch.float64)
    y = torch.stack([function(x) for function in FUNCTIONS.values()])
    model = Polynomial(
        degree, priors.geometric(2.0), PENALTY, kind="legendre", hyperparameters="fixed"
    )
    posterior = model.fit(x, y[..., None])
    rmse = (posterior.fitted()[..., 0] - y).square().mean(-1).sqrt()
    truth = torch.stack([function(fine) for function in FUNCTIONS.values()])
    truth[-1] = math.nan
    return xr.Dataset(
        {
            "y": (("function", "row"), y.numpy()),
            "fitted": (("function", "point"), posterior.mean(fine)[..., 0].numpy()),
            "truth": (("function", "point"), truth.numpy()),
            "train_rmse": ("function", rmse.numpy()),
        },
        coords={"function": list(FUNCTIONS), "row": x.numpy(), "point": fine.numpy()},
        attrs={
            "title": "A flexible polynomial with a soft preference for low orders",
            "degree": degree,
            "penalty": PENALTY,
            **provenance(command or f"flexible_polynomial(n={n}, degree={degree})"),
        },
    )


NOISE_SD = 0.1
# Inputs are mapped from [−4, 4], the range of N(0, 1), to [−1, 1]. On raw powers of x, which reach
# 10⁷ at x = 3, the penalty would have no effect.
RANGE = 4.0
TARGETS = ("degree 2", "degree 15", "cos(3πx/2)")
MODELS = ("degree 2", "degree 15", "degree 15, regularised")


@experiment(plot=plots.soft_against_hard)
def soft_against_hard(
    *,
    sizes: Sequence[int] = tuple(range(10, 101, 10)),
    repetitions: int = 100,
    seed: int = 0,
    command: str | None = None,
) -> xr.Dataset:
    """Test error of degree 2, degree 15, and degree 15 with penalty Σ 0.01² j² wⱼ².

    Least squares (of minimum norm where it is not unique) on x ~ N(0, 1) with noise 0.1 ε. The
    features are powers of x/4, and the coefficients of the true polynomials are drawn from N(0, 1)
    in each repetition. For each model, all functions, sizes and repetitions are one batched solve;
    smaller data sets are padded with rows of zeros.

    Args:
        sizes: numbers of observations.
        repetitions: number of draws of the data.
        seed: seed of all draws.
        command: command to record in the result; None records this call.

    Returns:
        Dataset with `test_rmse`, dims (model, target, n, repetition), on 100 new points.

    Source: Wilson (2025), figure 5.

    Example:
        >>> result = soft_against_hard(sizes=[10, 20], repetitions=3)
        >>> dict(result.sizes)
        {'model': 3, 'target': 3, 'n': 2, 'repetition': 3}
    """
    generator = torch.Generator().manual_seed(seed)
    most, held_out, top = max(sizes), 100, 15
    shape = (repetitions, most + held_out)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    weights = torch.randn(2, repetitions, top + 1, generator=generator, dtype=torch.float64)
    weights[0, :, 3:] = 0
    Phi = bases.KINDS["powers"](x / RANGE, top)
    clean = torch.cat([torch.einsum("rnj,trj->trn", Phi, weights), (1.5 * math.pi * x).cos()[None]])
    noise = NOISE_SD * torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    # Axes: n, repetition, row, column. Rows beyond n are zero and have no effect.
    keep = torch.arange(most) < torch.tensor(sizes)[:, None]
    train = Phi[:, :most] * keep[:, None, :, None]
    y = (clean + noise)[:, :, :most].permute(1, 2, 0) * keep[:, None, :, None]
    errors = []
    for degree, root in ((2, None), (top, None), (top, 0.01 * torch.arange(top + 1.0))):
        columns = train[..., : degree + 1]
        targets = y
        if root is not None:
            extra = torch.diag(root.double()).expand(*columns.shape[:2], -1, -1)
            columns = torch.cat([columns, extra], -2)
            targets = torch.cat([y, y.new_zeros(*y.shape[:2], top + 1, y.shape[-1])], -2)
        # Columns are scaled to unit norm for conditioning; the solution is scaled back.
        size = columns.norm(dim=-2, keepdim=True) if root is not None else 1.0
        solution = torch.linalg.lstsq(columns / size, targets, driver="gelsd").solution
        solution = solution / (size.mT if isinstance(size, Tensor) else size)
        predicted = Phi[:, most:, : degree + 1] @ solution
        gap = predicted - clean[:, :, most:].permute(1, 2, 0)
        errors.append(gap.square().mean(-2).sqrt().permute(2, 0, 1))
    return xr.Dataset(
        {
            "test_rmse": (
                ("model", "target", "n", "repetition"),
                torch.stack(errors).numpy(),
                {"long_name": "root mean square error on new points"},
            )
        },
        coords={
            "model": list(MODELS),
            "target": list(TARGETS),
            "n": list(sizes),
            "repetition": np.arange(repetitions),
        },
        attrs={
            "title": "A soft preference for low orders against a hard limit",
            "noise_sd": NOISE_SD,
            **provenance(command or f"soft_against_hard({repetitions=}, {seed=})"),
        },
    )

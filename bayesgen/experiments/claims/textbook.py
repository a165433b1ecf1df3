"""Experiment: the evidence against order in the settings of two textbook figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from bayesgen import plots
from bayesgen._internal import checks
from bayesgen.covariance.linear import FeatureGram
from bayesgen.experiments.experiment import claim, experiment, provenance
from bayesgen.features import bases, priors
from bayesgen.models.linear.model import nested

# Bishop's figure: prior precision, noise precision, number of observations, largest order.
ALPHA, BETA, OBSERVATIONS, LARGEST = 5e-3, 11.1, 10, 9
SCALINGS = (0.0, 1.0, 2.0, 3.0, 4.0)
STEP_NOISE = 0.25
# Nats from the best to the largest order: at least, where the evidence is said to fall, and at
# most, where it is said not to.
FALLS, STAYS = 1.0, 1.0


@experiment(plot=plots.textbook)
def textbook_orders(
    *,
    scalings: Sequence[float] = SCALINGS,
    n: int = 50,
    largest: int = 60,
    repetitions: int = 50,
    seed: int = 0,
    command: str | None = None,
) -> xr.Dataset:
    """Evidence against order for Bishop's fixed prior, and for Rasmussen and Ghahramani's scaling.

    Left: polynomials of orders 0 to 9 with wⱼ ~ N(0, 1/α), α = 0.005, and noise precision 11.1, on
    ten values of sin 2πx with noise of standard deviation 0.3, as in Bishop's figure 3.14. Right:
    Fourier series of order D with weights of variance S d^(−γ) at frequency d, where S has maximum
    evidence at each order, on a noisy step.

    Neither source gives its data set in numbers. The curves are therefore means over draws of the
    noise. The step sign(x) at uniform inputs in [−π, π], its noise variance 0.25, which the model
    knows and keeps, and the orders up to `largest` are choices of this study.

    `order_selection` has both priors on one data set, with learnt scale and noise variance.

    Args:
        scalings: exponents γ ≥ 0; the first is compared with those of at least 2.
        n: number of observations of the step.
        largest: largest order of the Fourier series.
        repetitions: number of draws of the noise.
        seed: seed of the inputs and of the noise.
        command: command to record in the result; None records this call.

    Returns:
        Dataset with polynomial_log_marginal_likelihood (degree, repetition) and
        fourier_log_marginal_likelihood (scaling, order, repetition).

    Raises:
        ValueError: a number is out of range.

    Source: Bishop (2006), figure 3.14; Rasmussen & Ghahramani (2000), section 3; Wilson (2025).

    Example:
        >>> result = textbook_orders(largest=10, repetitions=5)
        >>> mean = result.polynomial_log_marginal_likelihood.mean("repetition")
        >>> 2 < int(mean.argmax("degree")) < 6
        True
    """
    gammas = [float(gamma) for gamma in scalings]
    if not gammas or not all(math.isfinite(g) and g >= 0 for g in gammas):
        raise ValueError(f"scalings must be finite and at least 0, got {list(scalings)}")
    n, largest = checks.whole("n", n, 2), checks.whole("largest", largest)
    repetitions = checks.whole("repetitions", repetitions)
    generator = torch.Generator().manual_seed(checks.seed(seed))
    polynomial = _polynomials(repetitions, generator)
    # On a regular grid, frequencies from n/2 on would repeat lower ones at the data.
    x = math.pi * (2 * torch.rand(n, 1, generator=generator, dtype=torch.float64) - 1)
    noise = torch.randn(repetitions, n, 1, generator=generator, dtype=torch.float64)
    y = x.sign() + STEP_NOISE**0.5 * noise
    features = bases.Fourier(largest, period=2 * math.pi).on(x)
    orders = list(range(largest + 1))
    rows = []
    for gamma in gammas:
        gram = FeatureGram(features, x, priors.resolve(_scaled(gamma)))
        tops = [s.maximise(noise=STEP_NOISE) for s in nested(gram, y, orders)]
        rows.append([top.evidence.log_marginal_likelihood.numpy() for top in tops])
    nats = {"units": "nats", "long_name": "log marginal likelihood"}
    result = xr.Dataset(
        {
            "polynomial_log_marginal_likelihood": (("degree", "repetition"), polynomial, nats),
            "fourier_log_marginal_likelihood": (
                ("scaling", "order", "repetition"),
                np.array(rows),
                nats,
            ),
        },
        coords={
            "degree": np.arange(LARGEST + 1),
            "scaling": ("scaling", gammas, {"long_name": "γ"}),
            "order": orders,
            "repetition": np.arange(repetitions),
        },
        attrs={"title": "Evidence against order in two textbook figures", "n": n},
    )
    result.attrs |= _claim(result)
    words = f"textbook_orders(scalings={gammas}, {n=}, {largest=}, {repetitions=}, {seed=})"
    return result.assign_attrs(**provenance(command or words))


def _polynomials(repetitions: int, generator: torch.Generator) -> np.ndarray:
    """Evidence of polynomials with Bishop's settings, (degree, repetition)."""
    x = torch.linspace(0, 1, OBSERVATIONS, dtype=torch.float64)[:, None]
    noise = torch.randn(repetitions, OBSERVATIONS, 1, generator=generator, dtype=torch.float64)
    y = torch.sin(2 * math.pi * x) + BETA**-0.5 * noise
    gram = FeatureGram(bases.Polynomial(LARGEST).on(x), x, priors.isotropic())
    spectra = nested(gram, y, range(LARGEST + 1))
    found = [s.evidence(1 / ALPHA, 1 / BETA).log_marginal_likelihood for s in spectra]
    values: np.ndarray = torch.stack(found).numpy()
    return values


def _scaled(gamma: float) -> Any:
    """Prior variances d^(−γ) at frequency d, and 1 for the constant."""

    def variance(order: Tensor) -> Tensor:
        return order.clamp_min(1) ** -gamma

    return variance


def _claim(result: xr.Dataset) -> dict[str, str]:
    """Attributes with the sources' claims and this result."""
    bishop = result.polynomial_log_marginal_likelihood.mean("repetition").values
    best = int(bishop.argmax())
    lost = float(bishop[best] - bishop[-1])
    fourier = result.fourier_log_marginal_likelihood.mean("repetition")
    falls = (fourier.max("order") - fourier.isel(order=-1)).values
    gammas = result.scaling.values
    strong = falls[gammas >= 2]
    named = ", ".join(f"{fall:.2f} (γ = {g:g})" for g, fall in zip(gammas, falls, strict=True))
    found = (
        f"With a fixed prior the mean evidence of polynomials is largest at order {best} and "
        f"{lost:.2f} nats lower at order {len(bishop) - 1}. From the best Fourier order to order "
        f"{int(result.order[-1])} it falls by {named} nats."
    )
    first = 1 < best < len(bishop) - 1 and lost > FALLS
    second = bool(len(strong) and strong.max() < STAYS and falls[0] > FALLS + strong.max())
    return claim(
        "Evidence peaks at an intermediate order under a fixed isotropic prior (Bishop), but does "
        "not fall with the order where the prior variance falls with it (Rasmussen & Ghahramani).",
        found,
        "yes" if first and second else "partly" if first or second else "no",
    )

"""Experiment: the evidence of a linear model with ever more bumps, against a Gaussian process."""

from __future__ import annotations

import math
from collections.abc import Sequence

import gpytorch
import numpy as np
import torch
import xarray as xr
from torch import Tensor

from bayesgen import plots
from bayesgen._internal import checks
from bayesgen.experiments.experiment import claim, experiment, provenance
from bayesgen.models import GaussianProcess, LinearModel

COUNTS = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 50, 100, 200, 500, 1000, 3000)
# The grid of bumps reaches beyond the data by this many widths of a bump.
_BEYOND = 5.0
# Nats by which the evidence may differ from that of the Gaussian process, or fall.
LIMIT_MARGIN, FALL_MARGIN = 0.01, 1.0
PRIORS = ("scaled by the spacing", "scaled, s and σ² of maximum evidence", "not scaled")


@experiment(plot=plots.bumps)
def bumps(
    counts: Sequence[int] = COUNTS,
    *,
    n: int = 50,
    lengthscale: float = 0.3,
    noise: float = 0.01,
    repetitions: int = 20,
    seed: int = 0,
    command: str | None = None,
) -> xr.Dataset:
    """The evidence of k radial basis functions rises with k to that of a Gaussian process.

    The model is y = Σⱼ wⱼ exp(−(x − cⱼ)²/2b²) + ε with k centres on a regular grid. With
    wⱼ ~ N(0, s Δ/(√π b)), where Δ is the distance of the centres, its covariance converges to
    s exp(−(x − x')²/2ℓ²) for ℓ = √2 b as k → ∞. The data are y = sin 3πx/2 + x/2 + ε on [−1, 1].
    Three variants are computed: this prior at s = 1 and the true noise variance; the same with s
    and σ² of maximum evidence at each k; and variances of 1 for each weight, whatever k, with which
    the variance of the function grows with k.

    The source states the limit in words and has no figure of it. The last variant is not in the
    source; it shows the prior under which a larger k is penalised.

    Args:
        counts: numbers of bumps k, increasing.
        n: number of observations.
        lengthscale: ℓ of the limit, in units of x.
        noise: noise variance σ² of the data.
        repetitions: number of draws of the noise.
        seed: seed of the noise.
        command: command to record in the result; None records this call.

    Returns:
        Dataset with log_marginal_likelihood (prior, k, repetition) and that of the Gaussian
        process, gp_log_marginal_likelihood (prior, repetition), which is missing for the prior that
        is not scaled; kernel_error (k), the largest error of the covariance at the inputs.

    Raises:
        ValueError: a number is out of range; counts do not increase.

    Source: MacKay (1998), Introduction to Gaussian processes, section 3; Wilson (2025), section 3.

    Example:
        >>> result = bumps([2, 10, 100], repetitions=3)
        >>> gap = result.log_marginal_likelihood - result.gp_log_marginal_likelihood
        >>> bool(abs(gap.sel(k=100, prior="scaled by the spacing")).max() < 0.01)
        True
    """
    ks = checks.increasing("counts", counts, 2, count=2)
    n, repetitions = checks.whole("n", n, 2), checks.whole("repetitions", repetitions)
    lengthscale = checks.positive_number("lengthscale", lengthscale)
    noise = checks.positive_number("noise", noise)
    generator = torch.Generator().manual_seed(checks.seed(seed))
    x = torch.linspace(-1, 1, n, dtype=torch.float64)[:, None]
    f = torch.sin(1.5 * math.pi * x) + x / 2
    error = torch.randn(repetitions, n, 1, generator=generator, dtype=torch.float64)
    y = f + noise**0.5 * error
    kernel = gpytorch.kernels.RBFKernel().double()
    kernel.lengthscale = lengthscale
    limit = kernel(x).to_dense().detach()
    free = ({"scale", "noise"}, "fixed")
    learnt, fixed = (
        GaussianProcess(kernel, noise=noise).fit(x, y, hyperparameters=names).evidence
        for names in free
    )
    missing = np.full(repetitions, np.nan)
    of_gp = [fixed.log_marginal_likelihood.numpy(), learnt.log_marginal_likelihood.numpy(), missing]
    rows, errors = [], []
    for k in ks:
        Phi, variance = _features(x, k, lengthscale)
        scaled = Phi * variance**0.5
        errors.append(float((scaled @ scaled.mT - limit).abs().max()))
        model = LinearModel(noise=noise)
        found = [
            model.fit(scaled, y, hyperparameters="fixed"),
            model.fit(scaled, y, hyperparameters={"scale", "noise"}),
            model.fit(Phi, y, hyperparameters="fixed"),
        ]
        rows.append([fit.evidence.log_marginal_likelihood.numpy() for fit in found])
    nats = {"units": "nats", "long_name": "log marginal likelihood"}
    result = xr.Dataset(
        {
            "log_marginal_likelihood": (("k", "prior", "repetition"), np.array(rows), nats),
            "gp_log_marginal_likelihood": (("prior", "repetition"), np.array(of_gp), nats),
            "kernel_error": ("k", errors, {"units": "1", "long_name": "largest error of k(x, x')"}),
        },
        coords={"k": ks, "prior": list(PRIORS), "repetition": np.arange(repetitions)},
        attrs={"title": "Evidence against the number of radial basis functions", "n": n},
    )
    result.attrs |= {"lengthscale": lengthscale, "noise": noise, **_claim(result)}
    words = f"bumps({ks}, {n=}, {lengthscale=}, {noise=}, {repetitions=}, {seed=})"
    return result.assign_attrs(**provenance(command or words))


def _features(x: Tensor, k: int, lengthscale: float) -> tuple[Tensor, float]:
    """Bumps (n, k), and the prior variance of a weight that makes their covariance converge."""
    width = lengthscale / math.sqrt(2)
    reach = 1 + _BEYOND * width
    centres = torch.linspace(-reach, reach, k, dtype=x.dtype)
    variance = float(centres[1] - centres[0]) / (math.sqrt(math.pi) * width)
    return (-(x - centres).square() / (2 * width**2)).exp(), variance


def _claim(result: xr.Dataset) -> dict[str, str]:
    """Attributes with the source's claim and this result."""
    mean = result.log_marginal_likelihood.mean("repetition")
    gap = abs(result.log_marginal_likelihood - result.gp_log_marginal_likelihood).isel(k=-1)
    scaled = [mean.sel(prior=name).values for name in PRIORS[:2]]
    lost = [float(values.max() - values[-1]) for values in scaled]
    plain = mean.sel(prior=PRIORS[2]).values
    found = (
        f"From k = {int(result.k[0])} to {int(result.k[-1])} the evidence goes from "
        f"{scaled[0][0]:.1f} to {scaled[0][-1]:.1f} nats and then differs from that of the "
        f"Gaussian process by at most {float(gap.max()):.1g} nats. From its maximum over k it "
        f"falls by {lost[0]:.2f} nats, and by {lost[1]:.2f} with s and σ² of maximum evidence. "
        f"With variances that are not scaled it falls by {float(plain.max() - plain[-1]):.1f} nats."
    )
    rises = all(values[-1] > values[0] + 10 for values in scaled)
    holds = rises and float(gap.max()) < LIMIT_MARGIN and max(lost) < FALL_MARGIN
    partly = rises and float(gap.max()) < LIMIT_MARGIN
    return claim(
        "A Gaussian process with an RBF kernel is the limit of infinitely many radial basis "
        "functions; more parameters are not penalised by the evidence.",
        found,
        "yes" if holds else "partly" if partly else "no",
    )

"""How often certificates fail, over 1,000 draws of a small known problem.

python benchmarks/coverage.py

Six inputs, noisy labels of known probabilities, so that the true Gibbs risk is a finite sum.
"""

from __future__ import annotations

import math

import gpytorch
import torch
from _report import write

import bayesgen as bg
from bayesgen import pacbayes
from bayesgen.pacbayes import expected_losses

DRAWS, N, DELTA = 1000, 25, 0.05
POINTS = torch.linspace(-1, 1, 6, dtype=torch.float64)
POSITIVE = torch.tensor([0.1, 0.2, 0.4, 0.7, 0.9, 0.6], dtype=torch.float64)
MEANS = 2000  # priors for the data to choose from


def kernel(lengthscale: float) -> gpytorch.kernels.Kernel:
    made = gpytorch.kernels.RBFKernel().double()
    made.lengthscale = torch.tensor(lengthscale, dtype=torch.float64)
    return made


def true_risk(posterior: bg.GPPosterior) -> float:
    latent = posterior.predict(POINTS, latent=True)
    mean, variance = latent.mean[:, None], latent.variance[:, None]
    negative, positive = (
        expected_losses.zero_one(mean, variance, torch.full((6,), label)) for label in (0, 1)
    )
    return float((POSITIVE * positive + (1 - POSITIVE) * negative).mean())


def failures() -> tuple[int, int, float]:
    """Of a fixed GP; of the best of four priors, paid for; and the mean gap of the latter."""
    generator = torch.Generator().manual_seed(0)
    fixed = bg.GaussianProcess(kernel(0.7), 0.5, hyperparameters="fixed")
    models = [bg.GaussianProcess(kernel(v)) for v in (0.2, 0.5, 1.0, 3.0)]
    plain, searched, gap = 0, 0, 0.0
    for draw in range(DRAWS):
        which = torch.randint(6, (N,), generator=generator)
        chance = torch.rand(N, generator=generator, dtype=torch.float64)
        y = torch.where(chance < POSITIVE[which], 1.0, -1.0).double()
        posterior = fixed.fit(POINTS[which], y)
        plain += true_risk(posterior) > posterior.certificate(DELTA).bound
        if draw < DRAWS // 5:  # the search is slower
            best = pacbayes.certify(models, POINTS[which], y, delta=DELTA)
            truth = true_risk(best.posterior)
            searched += truth > best.bound
            gap += (best.bound - truth) / (DRAWS // 5)
    return plain, searched, gap


def unpaid() -> tuple[int, int]:
    """Random labels; the prior's mean chosen among 2,000 by the data, for free and paid for."""
    generator = torch.Generator().manual_seed(0)
    free = paid = 0
    for _ in range(DRAWS):
        wrong = torch.rand(MEANS, N, generator=generator) < 0.5
        risk = float(wrong.double().mean(1).min())
        free += float(pacbayes.maurer(risk, 0.0, N, DELTA)) < 0.5
        paid += float(pacbayes.maurer(risk, math.log(MEANS), N, DELTA)) < 0.5
    return free, paid


def main() -> None:
    torch.set_num_threads(1)
    plain, searched, gap = failures()
    free, paid = unpaid()
    few = DRAWS // 5
    write(
        "coverage",
        "How often certificates fail, δ = 0.05",
        "python benchmarks/coverage.py",
        [
            ("a fixed Gaussian process, noise kept", f"{plain} of {DRAWS:,}"),
            ("the best of four priors, noise tuned, ln 4 paid", f"{searched} of {few}"),
            ("its bound less the true Gibbs risk, mean", f"{gap:.3f}"),
            (
                f"random labels, best of {MEANS:,} point-mass priors, nothing paid",
                f"**{free} of {DRAWS:,}**",
            ),
            (f"the same, ln {MEANS:,} paid", f"{paid} of {DRAWS:,}"),
        ],
        f"Samples of {N}. A certificate may fail for 5 % of them; one whose prior was chosen by "
        "the data without payment fails far more often.",
    )


if __name__ == "__main__":
    main()

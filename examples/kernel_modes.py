"""Trend and season: a sum of kernels has several maxima of the evidence.

The search starts from many settings and lists the maxima that it found. The hyperparameters come
with their units, and with notes on what the data do not identify.

    python examples/kernel_modes.py
"""

import torch
from gpytorch.kernels import PeriodicKernel, RBFKernel, ScaleKernel
from matplotlib.figure import Figure

import bayesgen as bg


def main() -> bg.GPPosterior:
    generator = torch.Generator().manual_seed(0)
    t = torch.linspace(0, 8, 80, dtype=torch.float64)
    noise = 0.15 * torch.randn(80, generator=generator, dtype=torch.float64)
    y = 0.3 * t + torch.sin(2 * torch.pi * t) + noise
    kernel = ScaleKernel(RBFKernel()) + ScaleKernel(PeriodicKernel())
    posterior = bg.GaussianProcess(kernel, starts=6).fit(t, y)
    print(posterior.hyperparameters)
    print(posterior.modes.round(3).to_string())

    grid = torch.linspace(0, 11, 400, dtype=torch.float64)
    lower, upper = posterior.interval(grid, 0.95)
    figure = Figure(figsize=(8.0, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.fill_between(grid, lower, upper, color="#0072B2", alpha=0.2, lw=0)
    axes.plot(grid, posterior.mean(grid), color="#0072B2")
    axes.plot(t, y, "k.", ms=4)
    axes.set(xlabel="t", title="trend and season of maximum evidence, extrapolated")
    figure.savefig("kernel_modes.png", dpi=150)
    return posterior


if __name__ == "__main__":
    main()

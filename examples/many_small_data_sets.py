"""Two hundred data sets of 30 points, each with hyperparameters of its own, in one call.

`fit_batch` factorises all covariances at once. Here each data set is a sine of another frequency,
and the length-scale of maximum evidence follows the frequency.

    python examples/many_small_data_sets.py
"""

import gpytorch
import torch
from matplotlib.figure import Figure

import bayesgen as bg


def main() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(200, 30, 1, generator=generator, dtype=torch.float64)
    frequency = torch.linspace(0.5, 3.0, 200, dtype=torch.float64)
    noise = 0.1 * torch.randn(200, 30, generator=generator, dtype=torch.float64)
    y = torch.sin(2 * torch.pi * frequency[:, None] * x[..., 0]) + noise

    posterior = bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit_batch(x, y)
    lengthscale = posterior.lengthscale.reshape(-1)
    noise_sd = posterior.noise.reshape(-1).sqrt()
    rank = torch.corrcoef(torch.stack([frequency.log(), lengthscale.log()]))[0, 1]
    print(f"correlation of log frequency and log length-scale: {float(rank):.2f}")
    print(f"median noise sd: {float(noise_sd.median()):.3f} (true: 0.1)")

    figure = Figure(figsize=(8.0, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.loglog(frequency, lengthscale, ".", color="#0072B2")
    left.set(xlabel="frequency", ylabel="length-scale", title="200 length-scales")
    new = torch.linspace(0, 1, 100, dtype=torch.float64)[:, None].expand(200, 100, 1)
    predicted = posterior.predict(new)
    for task, colour in ((0, "#009E73"), (199, "#D55E00")):
        mean, sd = predicted.mean[task].reshape(-1), predicted.stddev[task].reshape(-1)
        right.plot(new[task, :, 0], mean, color=colour)
        right.fill_between(new[task, :, 0], mean - 2 * sd, mean + 2 * sd, color=colour, alpha=0.2)
        right.plot(x[task, :, 0], y[task], ".", color=colour, ms=4)
    right.set(xlabel="x", title="the first and the last data set")
    figure.savefig("many_small_data_sets.png", dpi=150)
    return frequency, lengthscale


if __name__ == "__main__":
    main()

"""Save a posterior, load it elsewhere, and predict with intervals.

The file holds numbers and text, without pickle, so that reading it runs no code. The loaded
posterior predicts the same to the last bit. The intervals are checked on new data.

    python examples/save_and_load.py
"""

import tempfile
from pathlib import Path

import gpytorch
import torch
from matplotlib.figure import Figure

import bayesgen as bg


def draw(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = 10 * torch.rand(n, generator=generator, dtype=torch.float64)
    noise = 0.2 * torch.randn(n, generator=generator, dtype=torch.float64)
    return x, torch.sin(x) + 0.1 * x + noise


def main() -> dict[str, float]:
    posterior = bg.GaussianProcess(gpytorch.kernels.MaternKernel()).fit(*draw(150, seed=0))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "matern.bayesgen"
        posterior.save(file)
        print(f"size of the file: {file.stat().st_size / 1000:.0f} kB")
        loaded = bg.load(file)

    x_new, y_new = draw(2000, seed=1)
    same = torch.equal(loaded.predict(x_new).mean, posterior.predict(x_new).mean)
    print(f"the loaded posterior predicts the same to the last bit: {same}")
    coverage = {}
    for level in (0.5, 0.8, 0.95):
        lower, upper = loaded.interval(x_new, level)
        coverage[f"{level:.0%}"] = float(((lower < y_new) & (y_new < upper)).double().mean())
        print(f"{level:.0%} intervals hold {coverage[f'{level:.0%}']:.1%} of 2,000 new points")

    grid = torch.linspace(0, 10, 300, dtype=torch.float64)
    figure = Figure(figsize=(7.0, 3.4), layout="constrained")
    axes = figure.subplots()
    for noise, label in ((True, "a new observation"), (False, "the function")):
        lower, upper = loaded.interval(grid, 0.95, noise=noise)
        axes.fill_between(grid, lower, upper, color="#0072B2", alpha=0.2, lw=0, label=label)
    axes.plot(grid, loaded.mean(grid), color="#0072B2")
    axes.plot(*draw(150, seed=0), "k.", ms=4)
    axes.set(xlabel="x", title="95 % intervals of the loaded posterior")
    axes.legend(frameon=False)
    figure.savefig("save_and_load.png", dpi=150)
    return coverage


if __name__ == "__main__":
    main()

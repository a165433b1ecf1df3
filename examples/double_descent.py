"""Double descent of least squares, and the ridge of maximum evidence that removes it.

A linear model of d features of 100 noisy points interpolates from d = 100 on. The error of least
squares peaks there and falls again. With the prior variance and the noise of maximum evidence there
is no peak, without any held-out data.

    python examples/double_descent.py
"""

import torch
from matplotlib.figure import Figure

import bayesgen as bg

DIMENSIONS = [5, 20, 40, 60, 80, 90, 95, 100, 105, 110, 120, 150, 200, 300]


def main() -> dict[str, list[float]]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, x_new = normal(100, 300), normal(2000, 300)
    weights = normal(300) / 300**0.5
    y = x @ weights + 0.3 * normal(100)
    truth = x_new @ weights
    size = truth.square().mean()
    errors: dict[str, list[float]] = {"least squares": [], "maximum evidence": []}
    for d in DIMENSIONS:
        least = torch.linalg.pinv(x[:, :d]) @ y
        posterior = bg.LinearModel().fit(x[:, :d], y)
        for name, mean in (
            ("least squares", x_new[:, :d] @ least),
            ("maximum evidence", posterior.mean(x_new[:, :d])),
        ):
            errors[name].append(float((mean - truth).square().mean() / size))
    at = DIMENSIONS.index(100)
    for name, values in errors.items():
        print(f"{name}: relative error {values[at]:.2f} at d = 100, {values[-1]:.2f} at d = 300")

    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(DIMENSIONS, errors["least squares"], "o-", color="#D55E00", label="least squares")
    axes.plot(DIMENSIONS, errors["maximum evidence"], "o-", color="#0072B2", label="max. evidence")
    axes.axvline(100, color="#666666", ls="--", lw=1)
    axes.set(yscale="log", xlabel="features d (dashed: d = n)", ylabel="relative squared error")
    axes.legend(frameon=False)
    figure.savefig("double_descent.png", dpi=150)
    return errors


if __name__ == "__main__":
    main()

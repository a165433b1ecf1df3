"""A deep kernel raises its evidence by features that the complexity does not include.

A network of a thousand weights is trained on the evidence of a Gaussian process on its features
(Ober et al. 2021). On 30 points the evidence exceeds that of a fixed kernel, and the predictions
are worse. `Evidence.complexity_excludes` says why the two numbers must not be compared.

    python examples/deep_kernel.py
"""

import gpytorch
import torch
from matplotlib.figure import Figure
from torch import nn

import bayesgen as bg


def truth(x: torch.Tensor) -> torch.Tensor:
    return torch.sin(3 * x) * torch.exp(-0.2 * x**2)


def main() -> dict[str, tuple[float, float]]:
    generator = torch.Generator().manual_seed(1)
    x = 6 * torch.rand(30, 1, generator=generator, dtype=torch.float64) - 3
    y = truth(x[:, 0]) + 0.3 * torch.randn(30, generator=generator, dtype=torch.float64)
    new = torch.linspace(-3, 3, 300, dtype=torch.float64)[:, None]
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 30), nn.Tanh(), nn.Linear(30, 30), nn.Tanh(), nn.Linear(30, 2))
    rbf = gpytorch.kernels.RBFKernel
    posteriors = {
        "fixed kernel": bg.GaussianProcess(rbf()).fit(x, y),
        "deep kernel": bg.DeepKernel(net.double(), rbf()).fit(x, y),
    }
    found = {}
    figure = Figure(figsize=(8.0, 3.2), layout="constrained")
    for axes, (name, posterior) in zip(
        figure.subplots(1, 2, sharey=True), posteriors.items(), strict=True
    ):
        predicted = posterior.predict(new, latent=True)
        rmse = float((predicted.mean - truth(new[:, 0])).square().mean().sqrt())
        evidence = posterior.evidence
        found[name] = float(evidence.log_marginal_likelihood), rmse
        excluded = ", ".join(evidence.complexity_excludes) or "nothing"
        print(f"{name}: {found[name][0]:.1f} nats, RMSE {rmse:.3f}, excludes {excluded}")
        mean, sd = predicted.mean, predicted.stddev
        axes.plot(new[:, 0], truth(new[:, 0]), "--", color="#666666", lw=1)
        axes.plot(new[:, 0], mean, color="#0072B2")
        axes.fill_between(new[:, 0], mean - 2 * sd, mean + 2 * sd, color="#0072B2", alpha=0.2)
        axes.plot(x[:, 0], y, "k.", ms=5)
        axes.set(title=f"{name}: {found[name][0]:.1f} nats, RMSE {rmse:.2f}", xlabel="x")
    figure.savefig("deep_kernel.png", dpi=150)
    return found


if __name__ == "__main__":
    main()

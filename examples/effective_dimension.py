"""The spectrum of a kernel, and the number of directions that the data determine.

The effective dimension N_eff(α) = Σ λᵢ/(λᵢ + α) counts the eigenvalues above the ridge α = σ²/s.
One decomposition gives the evidence of every task at every scale and noise, and their maximum.

    python examples/effective_dimension.py
"""

import gpytorch
import torch
from matplotlib.figure import Figure

import bayesgen as bg

LEVELS = (0.2, 0.6)


def main() -> tuple[torch.Tensor, torch.Tensor]:
    data = bg.data.load("digits", train=400)
    y = [bg.corrupt_labels(data.y_train, p, num_classes=10, seed=0)[0] for p in LEVELS]
    targets = bg.likelihoods.one_hot(torch.stack(y), 10)
    kernel = gpytorch.kernels.RBFKernel()
    kernel.lengthscale = 2.0
    K = kernel.double()(data.x_train).to_dense().detach()
    spectrum = bg.Spectrum.dense(K, targets)
    best = spectrum.maximise()
    ridge = best.noise / best.scale
    for level, alpha in zip(LEVELS, ridge, strict=True):
        dimension = float(spectrum.effective_dimension(alpha))
        print(f"{level:.0%} redrawn: ridge {float(alpha):.2g}, N_eff {dimension:.1f} of {len(K)}")

    alphas = torch.logspace(-6, 4, 60, dtype=torch.float64)
    curve = torch.stack([spectrum.effective_dimension(a) for a in alphas])
    figure = Figure(figsize=(8.0, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.semilogy(torch.linalg.eigvalsh(K).flip(0), color="#0072B2")
    left.set(xlabel="number", ylabel="eigenvalue", title="spectrum of the Gram matrix")
    right.semilogx(alphas, curve, color="#0072B2")
    for level, alpha, colour in zip(LEVELS, ridge, ("#009E73", "#D55E00"), strict=True):
        right.axvline(float(alpha), color=colour, ls="--", label=f"{level:.0%} redrawn")
    right.set(xlabel="ridge α = σ²/s", title="effective dimension")
    right.legend(frameon=False, title="ridge of maximum evidence")
    figure.savefig("effective_dimension.png", dpi=150)
    return alphas, curve


if __name__ == "__main__":
    main()

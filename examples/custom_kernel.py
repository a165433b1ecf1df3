"""A kernel of your own in five lines, as a gpytorch Kernel and as a plain function.

Both give the numbers of the built-in kernel, with the same search over the hyperparameters.

    python examples/custom_kernel.py
"""

import gpytorch
import torch
from matplotlib.figure import Figure

import bayesgen as bg


class MyKernel(gpytorch.kernels.Kernel):
    has_lengthscale = True

    def forward(self, x1, x2, diag=False, **params):
        distance = self.covar_dist(x1 / self.lengthscale, x2 / self.lengthscale, diag=diag)
        return torch.exp(-0.5 * distance**2)


def my_function(x1, x2):
    return torch.exp(-0.5 * torch.cdist(x1, x2) ** 2)


def main() -> None:
    data = bg.data.load("digits", train=300)
    y = bg.likelihoods.one_hot(data.y_train, data.num_classes)
    found = {}
    for name, kernel in {
        "gpytorch's RBFKernel": gpytorch.kernels.RBFKernel(),
        "a gpytorch Kernel": MyKernel(),
        "a plain function": bg.kernels.stationary(my_function),
    }.items():
        posterior = bg.GaussianProcess(kernel).fit(data.x_train, y)
        error = (posterior.mean(data.x_test).argmax(-1) != data.y_test).double().mean()
        print(
            f"{name:22} log p(D) {posterior.evidence.log_marginal_likelihood:12.6f}  "
            f"length-scale {posterior.lengthscale:.6f}  test error {error:.4f}"
        )
        found[name] = float(posterior.evidence.log_marginal_likelihood)
    figure = Figure(figsize=(6.4, 1.8), layout="constrained")
    axes = figure.subplots()
    axes.barh(list(found), list(found.values()), color="#0072B2")
    axes.set(title="log p(D), nats: three ways to write one kernel")
    figure.savefig("custom_kernel.png", dpi=150)


if __name__ == "__main__":
    main()

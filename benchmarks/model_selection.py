"""Laplace evidence of GP classification against scikit-learn, and a whole evidence surface.

usage: python benchmarks/model_selection.py [--n 2000] [--threads 2] [--repeats 5]
"""

from __future__ import annotations

import argparse
import math

import gpytorch
import torch
from _report import median, timed, write
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from threadpoolctl import threadpool_limits

import bayesgen as bg
from bayesgen.covariance.gram import gram
from bayesgen.models.latent.fit import LaplaceEvidence
from bayesgen.select import surface

SCALE, LENGTHSCALE, WIDTH = 4.0, 1.5, 5


def labels(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs in five dimensions and noisy binary labels."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, WIDTH, generator=generator, dtype=torch.float64)
    score = torch.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2]
    noise = 0.5 * torch.randn(n, generator=generator, dtype=torch.float64)
    return x, (score + noise > 0).long()


def laplace(n: int, repeats: int) -> list[tuple[str, str]]:
    x, y = labels(n)
    peer = GaussianProcessClassifier(ConstantKernel(SCALE) * RBF(LENGTHSCALE), optimizer=None)
    peer.fit(x.numpy(), y.numpy())
    theta = peer.kernel_.theta

    def theirs() -> tuple[float, list[float]]:
        value, gradient = peer.log_marginal_likelihood(theta, eval_gradient=True)
        return value, list(gradient)

    likelihood = bg.likelihoods.Bernoulli()
    inner = likelihood.targets(y, x)[0]
    log_lengthscale = x.new_tensor([math.log(LENGTHSCALE)])

    def ours() -> tuple[float, list[float]]:  # from nothing: distances and a cold Newton included
        matrices = gram(gpytorch.kernels.RBFKernel().double(), x)
        objective = LaplaceEvidence(matrices, likelihood, inner)
        value, gradient = objective(log_lengthscale, x.new_tensor(SCALE), None)
        return value, [gradient[1], gradient[0]]

    (value, gradient), (peer_value, peer_gradient) = ours(), theirs()
    gap = max(abs(a - b) for a, b in zip(gradient, peer_gradient, strict=True))
    own, other = median(ours, repeats), median(theirs, repeats)
    return [
        (f"bayesgen, value and gradient, n = {n:,}", f"{own:.2f} s"),
        ("scikit-learn, the same", f"{other:.2f} s"),
        ("faster by", f"{other / own:.1f}×"),
        ("difference of the values", f"{abs(value - peer_value):.1e} nats"),
        ("largest difference of the gradients", f"{gap:.1e}"),
    ]


def whole_surface(repeats: int) -> list[tuple[str, str]]:
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(200, generator=generator, dtype=torch.float64) - 1
    y = x + torch.cos(math.pi * x)
    y = y + 0.1 * torch.randn(200, generator=generator, dtype=torch.float64)
    model = bg.Polynomial(150, bg.priors.geometric(2.0))
    scales = torch.logspace(-3, 3, 40, dtype=torch.float64)
    noises = torch.logspace(-4, 1, 20, dtype=torch.float64)
    seconds = median(lambda: surface(model, x, y, scales=scales, noises=noises), repeats)
    return [("surface, 151 orders × 40 scales × 20 noises, n = 200", f"{seconds:.2f} s")]


def figures() -> list[tuple[str, str]]:
    seconds, _ = timed(bg.experiments.soft_against_hard)
    return [("fig5, 3 models × 3 functions × 10 sizes × 100 repetitions", f"{seconds:.2f} s")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with threadpool_limits(arguments.threads):
        rows = [
            *laplace(arguments.n, arguments.repeats),
            *whole_surface(arguments.repeats),
            *figures(),
        ]
    write(
        "model_selection",
        "Model selection: Laplace evidence, evidence surface, figure 5",
        f"python benchmarks/model_selection.py --n {arguments.n} --threads {arguments.threads}",
        rows,
        "Laplace: binary labels, RBF kernel, both from a cold start of Newton; scikit-learn's "
        "`log_marginal_likelihood(theta, eval_gradient=True)`. Medians.",
    )


if __name__ == "__main__":
    main()

"""The corruption study on CIFAR-10 against the same study with GPyTorch.

usage: python benchmarks/corruption_study.py --data-dir DIR [--train 4000] [--threads 2]

bayesgen runs the whole study: 11 levels × 3 seeds × 10 classes, length-scale, outputscale and noise
of every task. GPyTorch is timed on one task (level 0.5, L-BFGS by
`botorch.fit.fit_gpytorch_mll` from the median distance and the targets' variance) and multiplied by
the number of tasks. At every level GPyTorch's L-BFGS is then started from bayesgen's optimum,
to see whether it finds more evidence.
"""

from __future__ import annotations

import argparse

import gpytorch
import numpy as np
import torch
from _report import timed, write
from botorch.fit import fit_gpytorch_mll
from gpytorch_peer import ScaledRBF, SharedOutputs, cholesky_always, value

import bayesgen as bg

LEVELS, SEEDS = [i / 10 for i in range(11)], 3


def fitted(model: ScaledRBF) -> float:
    with cholesky_always():
        fit_gpytorch_mll(SharedOutputs(model.likelihood, model))
    return value(model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--train", type=int, default=4000)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = bg.data.load("cifar10", train=options.train, data_dir=options.data_dir)
    x, C = data.x_train, data.num_classes
    labels = torch.stack(
        [
            bg.corrupt_labels(data.y_train, level, num_classes=C, seed=seed)[0]
            for level in LEVELS
            for seed in range(SEEDS)
        ]
    )
    y = bg.likelihoods.one_hot(labels, C)
    gp = bg.GaussianProcess(gpytorch.kernels.RBFKernel())
    ours, posterior = timed(lambda: gp.fit(x, y))
    evidence = posterior.evidence.log_marginal_likelihood
    print(f"bayesgen: {ours:.1f} s, {posterior.spectra} spectra", flush=True)

    typical, variance = bg.kernels.typical_distance(x), float(y.var())
    middle = LEVELS.index(0.5) * SEEDS
    cold = ScaledRBF(x, y[middle]).at(typical, variance, variance)
    theirs, found = timed(lambda: fitted(cold))
    print(f"GPyTorch, level 0.5: {theirs:.1f} s, {found:.2f} against {evidence[middle]:.2f}")

    gains = []
    for i, level in enumerate(LEVELS):
        b = i * SEEDS
        settings = (posterior.lengthscale[b], posterior.scale[b], posterior.noise[b])
        warm = ScaledRBF(x, y[b]).at(*(max(float(v), 1.01e-4) for v in settings))
        gains.append((fitted(warm) - float(evidence[b])) / abs(float(evidence[b])))
        print(f"level {level}: GPyTorch gains {gains[-1]:+.2e} of the evidence", flush=True)

    study = theirs * len(labels)
    write(
        "corruption_study",
        f"Corruption study, CIFAR-10 (JPEG), n = {options.train:,}, {len(LEVELS)} levels × "
        f"{SEEDS} seeds × {C} classes",
        f"python benchmarks/corruption_study.py --data-dir DIR --train {options.train} "
        f"--threads {options.threads}",
        [
            ("bayesgen, the whole study", f"{ours:.1f} s"),
            ("spectra (eigendecompositions) it took", f"{posterior.spectra}"),
            ("GPyTorch, one task (level 0.5)", f"{theirs:.1f} s"),
            (f"GPyTorch, × {len(labels)} tasks (multiplied, not run)", f"{study:.0f} s"),
            ("**ratio**", f"**{study / ours:.0f}×**"),
            ("evidence at level 0.5, bayesgen", f"{float(evidence[middle]):.2f} nats"),
            ("evidence at level 0.5, GPyTorch from scratch", f"{found:.2f} nats"),
            (
                "most GPyTorch adds at any level, started from bayesgen's optimum",
                f"{100 * np.max(gains):.4f} %",
            ),
        ],
        "float64 throughout. GPyTorch is given one Cholesky for all ten outputs, which its own "
        "`ExactMarginalLogLikelihood` would repeat for each (`benchmarks/gpytorch_peer.py`).",
    )


if __name__ == "__main__":
    main()

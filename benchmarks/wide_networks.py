"""Kernels of infinite networks beside the RBF kernel on CIFAR-10: evidence and test error.

usage: python benchmarks/wide_networks.py --data-dir DIR [--train 4000] [--kernel NAME ...]

The mean image and one standard deviation of all pixels are those of the training images: kernels
of networks depend on the origin and the RBF kernel does not. Each kernel is fitted to one-hot
labels of ten classes, with its hyperparameters, outputscale and noise at the largest evidence that
the search finds. The evidence is stated in nats for each image, all ten outputs together. Kernels
are kept as they end, in benchmarks/results/wide_networks.json, and the table is made of all that
are there.
"""

from __future__ import annotations

import argparse
import json
import math

import torch
from _report import RESULTS, write

import bayesgen as bg

STORE = RESULTS / "wide_networks.json"
KERNELS = {
    "RBF": "rbf",
    "arc-cosine, depth 1": "arccos(depth=1)",
    "arc-cosine, depth 6": "arccos(depth=6)",
    "NNGP, ReLU, depth 3": "nngp(depth=3)",
    "NNGP, erf, depth 1": "nngp(depth=1, activation=erf)",
    "NTK, ReLU, depth 1": "ntk(depth=1)",
    "NTK, ReLU, depth 3": "ntk(depth=3)",
}


def scaled(data: bg.data.Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """Training and test images, minus the mean image, in units of one standard deviation."""
    middle = data.x_train.mean(0)
    spread = (data.x_train - middle).std()
    return (data.x_train - middle) / spread, (data.x_test - middle) / spread


def row(text: str, data: bg.data.Dataset, starts: int) -> dict[str, float]:
    """The fit of one kernel."""
    x, x_test = scaled(data)
    y = bg.likelihoods.one_hot(data.y_train, data.num_classes)
    posterior = bg.GaussianProcess(bg.kernels.parsed(text), starts=starts).fit(x, y)
    n = len(x)
    guesses = posterior.mean(x_test).argmax(-1)
    return {
        "evidence": float(posterior.evidence.log_marginal_likelihood) / n,
        "fit": float(posterior.evidence.fit) / n,
        "complexity": float(posterior.evidence.complexity) / n,
        "error": float((guesses != data.y_test).double().mean()),
        "tested": len(data.x_test),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, help="CIFAR-10's official binary files")
    parser.add_argument("--train", type=int, default=4000)
    parser.add_argument("--starts", type=int, default=2, help="starts of each search")
    parser.add_argument("--kernel", action="append", choices=list(KERNELS), help="only these")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    RESULTS.mkdir(exist_ok=True)
    data = bg.data.load("cifar10", train=options.train, data_dir=options.data_dir)
    key = f"n = {options.train}, {options.starts} starts"
    kept = json.loads(STORE.read_text()) if STORE.exists() else {}
    found = kept.setdefault(key, {})
    for name in options.kernel or KERNELS:
        if name not in found:
            print(f"--- {name}", flush=True)
            found[name] = row(KERNELS[name], data, options.starts)
            print(found[name], flush=True)
            STORE.write_text(json.dumps(kept, indent=1) + "\n")
    report(found, options.train, options.starts)


def report(found: dict[str, dict[str, float]], n: int, starts: int) -> None:
    """The table of all kernels that are in the store."""
    rows = [("kernel", "log p(D)/n, nats · fit/n · KL/n · test error ± s.e.")]
    for name in KERNELS:
        if name in found:
            one = found[name]
            spread = math.sqrt(one["error"] * (1 - one["error"]) / one["tested"])
            rows.append(
                (
                    name,
                    f"**{one['evidence']:.3f}** · {one['fit']:.3f} · {one['complexity']:.3f} · "
                    f"{one['error']:.3f} ± {spread:.3f}",
                )
            )
    write(
        "wide_networks",
        f"Infinite networks beside the RBF kernel, CIFAR-10 (JPEG), n = {n:,}",
        f"python benchmarks/wide_networks.py --data-dir DIR --train {n} --starts {starts}",
        rows,
        "One-hot labels of ten classes, whose outputs share their hyperparameters; float64. "
        "The evidence is that of all ten outputs, divided by the number of images. NNGP and "
        "arc-cosine kernels of one depth differ by their weight variances between layers only.",
    )


if __name__ == "__main__":
    main()

"""Certificates on CIFAR-10: the ladder from an RBF kernel to convolutional features to a split.

python benchmarks/certificates.py --data-dir DIR [--rung NAME ...]

Each rung is a model, certified by `bayesgen.pacbayes.certify` at δ = 0.05, with the bound, what it
is made of, and the test error of the certified posterior's mean. Rungs are kept as they end, in
benchmarks/results/certificates.json, and the table is made of all that are there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import gpytorch
import torch
from _report import RESULTS

import bayesgen as bg
from bayesgen import pacbayes

STORE = RESULTS / "certificates.json"
LEVELS = (0.0, 1.0)


def rbf(data: bg.data.Dataset) -> dict[str, Any]:
    """RBF kernels at length-scales stated beforehand: pixels in [0, 1]^3072 lie 10 to 30 apart."""
    models = {}
    for lengthscale in (8.0, 12.0, 16.0, 24.0, 32.0, 48.0):
        kernel = gpytorch.kernels.RBFKernel().double()
        kernel.lengthscale = torch.tensor(lengthscale, dtype=torch.float64)
        models[f"RBF {lengthscale:g}"] = bg.GaussianProcess(kernel)
    return models


def convolutional(filters: int) -> Callable[[bg.data.Dataset], dict[str, Any]]:
    """One prior: linear in random convolutional features."""

    def make(data: bg.data.Dataset) -> dict[str, Any]:
        basis = bg.bases.Convolutional(filters)
        by = "gram" if basis.map.d < len(data.x_train) else "svd"
        return {"convolutional": bg.LinearModel(basis, decomposition=by)}

    return make


# name: classes, training points, models, share of the data for the prior.
RUNGS: dict[
    str, tuple[tuple[int, ...] | None, int, Callable[..., dict[str, Any]], float | None]
] = {
    "binary, RBF": ((0, 1), 10_000, rbf, None),
    "binary, convolutional": ((0, 1), 10_000, convolutional(512), None),
    "binary, convolutional, split": ((0, 1), 10_000, convolutional(512), 0.5),
    "ten, RBF, n = 4,000": (None, 4_000, rbf, None),
    "ten, convolutional, n = 4,000": (None, 4_000, convolutional(512), None),
    "ten, RBF, n = 10,000": (None, 10_000, rbf, None),
    "ten, convolutional, n = 10,000": (None, 10_000, convolutional(512), None),
    "ten, convolutional, n = 50,000": (None, 50_000, convolutional(512), None),
    "ten, convolutional, split, n = 50,000": (None, 50_000, convolutional(512), 0.5),
    "ten, 1,024 filters, n = 50,000": (None, 50_000, convolutional(1024), None),
}


def run(name: str, data_dir: str) -> None:
    """One rung, on clean and on random labels."""
    classes, n, make, split = RUNGS[name]
    data = bg.data.load("cifar10", data_dir=data_dir, train=None if classes else n)
    if classes:
        data = bg.data.restrict(data, classes)
    C = data.num_classes
    levels = LEVELS if len(data.y_train) <= 10_000 else (0.0,)
    labels = torch.stack(
        [bg.corrupt_labels(data.y_train, level, num_classes=C)[0] for level in levels]
    )
    y = bg.likelihoods.one_hot(labels, C)
    start = time.perf_counter()
    found = pacbayes.certify(
        make(data),
        data.x_train,
        y,
        split=split,
        progress=lambda i, n, what: print(what, flush=True),
    )
    seconds = time.perf_counter() - start
    rows = {}
    for level, one in zip(levels, found, strict=True):
        print(one, flush=True)
        error = float("nan")
        if one.posterior is not None:
            guesses = one.posterior.mean(data.x_test).argmax(-1)
            error = float((guesses != data.y_test).double().mean())
        rows[str(level)] = {
            "bound": one.bound,
            "risk": one.risk,
            "kl": one.complexity,
            "n": one.n,
            "paid": one.paid,
            "test": error,
            "settings": one.settings,
        }
    kept = json.loads(STORE.read_text()) if STORE.exists() else {}
    kept[name] = {"seconds": seconds, "levels": rows}
    STORE.write_text(json.dumps(kept, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, help="CIFAR-10's official binary files")
    parser.add_argument("--rung", action="append", choices=list(RUNGS), help="only these")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    RESULTS.mkdir(exist_ok=True)
    for name in options.rung or RUNGS:
        print(f"--- {name}", flush=True)
        run(name, options.data_dir)
    report()


def report() -> None:
    """The table of all rungs that are in the store."""


if __name__ == "__main__":
    sys.exit(main())

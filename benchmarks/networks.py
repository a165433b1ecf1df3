"""PreResNet-20 on CIFAR-10: Laplace's evidence against label corruption, and what lifts it.

python benchmarks/networks.py --data-dir DIR --work DIR [--part levels|lifts] [--train N]

Levels: one network for each share of labels redrawn, trained to fit them, and its evidence by the
exact GGN with one prior precision, and by Kronecker factors with one or one for each layer. Lifts:
the clean labels again, by what could raise the evidence. Trained networks are kept in --work, cells
as they end in benchmarks/results/networks.json, and the tables are made of all that are there.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from _report import RESULTS, write
from scipy.stats import kendalltau
from torch import Tensor, nn

import bayesgen as bg

STORE = RESULTS / "networks.json"
LEVELS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def images(folder: str, train: int) -> tuple[bg.data.Dataset, Tensor, Tensor]:
    """The data, and its images standardised by channel, (n, 3, 32, 32)."""
    data = bg.data.load("cifar10", train=train, test=2000, data_dir=folder, dtype=torch.float32)
    x, new = (part.reshape(-1, 3, 32, 32) for part in (data.x_train, data.x_test))
    mean, sd = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True)
    layout = torch.channels_last
    return (
        data,
        ((x - mean) / sd).contiguous(memory_format=layout),
        ((new - mean) / sd).contiguous(memory_format=layout),
    )


def error(net: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        scores = torch.cat([net(rows) for rows in x.split(250)])
    return float((scores.argmax(1) != y).float().mean())


class Store:
    """Cells by name, on disk as they end."""

    def __init__(self) -> None:
        self.cells: dict[str, Any] = json.loads(STORE.read_text()) if STORE.exists() else {}

    def keep(self, name: str, **cell: Any) -> None:
        """Add to a cell."""
        self.cells[name] = self.cells.get(name, {}) | cell
        STORE.write_text(json.dumps(self.cells, indent=1, sort_keys=True) + "\n")
        print(name, cell, flush=True)


def evidence(net: nn.Module, x: Tensor, y: Tensor, curvature: str, precision: Any) -> dict:
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        laplace = bg.Laplace(
            net,
            prior_precision=precision,
            curvature=curvature,
            dtype=torch.float32,
            batch=128,
            memory=1.05e10,
        )
        posterior = laplace.fit(x, y)
    e = posterior.evidence
    return {
        "evidence": float(e.per_observation),
        "fit": float(e.fit) / e.n,
        "complexity": float(e.complexity) / e.n,
        "effective_dimension": float(e.effective_dimension),
        "error": float(e.error) / e.n,
        "gain": posterior.gain / e.n,
        "precision": posterior.prior_precision.tolist(),
        "seconds": time.perf_counter() - start,
    }


def trained(
    work: Path, name: str, x: Tensor, y: Tensor, norm: str, **settings: Any
) -> tuple[nn.Module, Any]:
    """The network of this name, from its checkpoint where that is complete."""
    torch.manual_seed(0)
    net = bg.networks.PreResNet20(16, norm=norm).to(memory_format=torch.channels_last)
    run = bg.train(net, x, y, checkpoint=work / f"{name}.pt", **settings)
    return net, run


SGD = {"epochs": 50, "learning_rate": 0.1, "prior_precision": 0.5}


CURVATURES = {
    "kron, layers": ("kron", "layer"),
    "ggn": ("ggn", 1.0),
    "kron": ("kron", 1.0),
}


def levels(
    store: Store, work: Path, data: Any, x: Tensor, new: Tensor, chosen: Any, curvatures: Any
) -> None:
    for level in chosen:
        name = f"level {level} n {len(x)}"
        y, _ = bg.corrupt_labels(data.y_train, level, num_classes=10, seed=0)
        start = time.perf_counter()
        net, run = trained(work, name, x, y, "batch", **SGD)
        if "train_error" not in store.cells.get(name, {}):
            store.keep(
                name,
                level=level,
                n=len(x),
                train_error=error(net, x, y),
                test_error=error(net, new, data.y_test),
                loss=float(run.history.loss.iloc[-1]),
                training_seconds=time.perf_counter() - start,
            )
        for label in curvatures:
            if label not in store.cells[name]:
                store.keep(name, **{label: evidence(net, x, y, *CURVATURES[label])})


ONLINE = {"evidence_every": 10, "burn_in": 10, "curvature": "kron", "structure": "layer"}
LIFTS = {
    "BatchNorm": ("batch", SGD),
    "no norm (Fixup)": ("none", {"epochs": 50, "optimiser": "adam", "learning_rate": 2e-3}),
    "BatchNorm, evidence in training": ("batch", SGD | ONLINE | {"epochs": 100}),
    "no norm, evidence in training": (
        "none",
        {"optimiser": "adam", "learning_rate": 2e-3} | ONLINE | {"epochs": 100},
    ),
}


def lifts(store: Store, work: Path, data: Any, x: Tensor, new: Tensor) -> None:
    for label, (norm, settings) in LIFTS.items():
        name = f"lift {label} n {len(x)}"
        start = time.perf_counter()
        net, run = trained(work, name, x, data.y_train, norm, **settings)
        if "train_error" not in store.cells.get(name, {}):
            store.keep(
                name,
                label=label,
                n=len(x),
                train_error=error(net, x, data.y_train),
                test_error=error(net, new, data.y_test),
                loss=float(run.history.loss.iloc[-1]),
                training_seconds=time.perf_counter() - start,
            )
        if "kron, layers" not in store.cells[name]:
            found = evidence(net, x, data.y_train, "kron", run.prior_precision + 1e-3)
            store.keep(name, **{"kron, layers": found})
        if "kron" not in store.cells[name]:
            store.keep(name, kron=evidence(net, x, data.y_train, "kron", 1.0))


NOTES = """PreResNet-20 (width 16, BatchNorm), 50 epochs of SGD with weight decay 5e-4 on
CIFAR-10 (JPEG), then Laplace about the weights as they are, float32. KFAC:
Kronecker factors with a precision a layer. GGN: exact, through function space, one
precision. In brackets, what rounding may have done to it, a bound. Gain: nats an
image that a Newton step to the mode at that precision would gain by the quadratic
model: the networks are far from the mode that the evidence asks for. Guessing
uniformly earns −2.303; what is below it says that this posterior explains the
labels worse than guessing."""


def report(store: Store, n: int) -> None:
    rows, series = [], {name: [] for name in CURVATURES}
    cells = [cell for cell in store.cells.values() if "level" in cell and cell["n"] == n]
    for cell in sorted(cells, key=lambda cell: cell["level"]):
        said = [f"train error {cell['train_error']:.3f}, test error {cell['test_error']:.3f}"]
        for name in CURVATURES:
            if name in cell:
                one = cell[name]
                series[name].append((cell["level"], one["evidence"]))
                bound = f" (±{one['error']:.2f})" if one["error"] > 0.005 else ""
                said.append(
                    f"{name} {one['evidence']:.3f}{bound}, "
                    f"N_eff {one['effective_dimension']:,.0f}, gain {one['gain']:.2f}"
                )
        rows.append((f"level {cell['level']:g}", "; ".join(said)))
    for name, pairs in series.items():
        if len(pairs) > 2:
            tau = kendalltau(*zip(*pairs, strict=True)).statistic
            rows.append((f"Kendall τ with the level, {name}", f"{tau:.2f} ({len(pairs)} levels)"))
    for cell in store.cells.values():
        if "label" in cell and cell["n"] == n:
            said = [f"{k} {cell[k]['evidence']:.3f}" for k in CURVATURES if k in cell]
            words = f"train error {cell['train_error']:.3f}; " + "; ".join(said)
            rows.append((f"clean labels, {cell['label']}", words))
    write(
        "networks",
        f"Laplace evidence of PreResNet-20, n = {n:,}, nats an image",
        f"python benchmarks/networks.py --data-dir DIR --work DIR --train {n}",
        rows,
        NOTES,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--work", type=Path, required=True, help="where trained networks are kept")
    parser.add_argument("--part", choices=("levels", "lifts", "report"), action="append")
    parser.add_argument("--level", type=float, action="append")
    parser.add_argument("--curvature", choices=tuple(CURVATURES), action="append")
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    store = Store()
    data, x, new = images(options.data_dir, options.train)
    parts = options.part or ["levels", "lifts"]
    if "levels" in parts:
        chosen, curvatures = options.level or LEVELS, options.curvature or CURVATURES
        levels(store, options.work, data, x, new, chosen, curvatures)
    if "lifts" in parts:
        lifts(store, options.work, data, x, new)
    report(store, options.train)


if __name__ == "__main__":
    main()

"""Time of figure 1(e): the exact GGN evidence of PreResNet-20 at several levels of corruption.

python benchmarks/figure_1e.py --data-dir DIR --work DIR [--train N] [--level L] [--before L]
    [--tolerance T] [--threads K]

Each level trains PreResNet-20 (width 16, BatchNorm) on N images of CIFAR-10, brings it to a loss of
0.001 nats an image on these, learns a prior precision for each layer by Kronecker factors, and
computes the evidence by the exact GGN at these precisions. With --before, the GGN of this level is
computed from all rows too, as by default. Trained networks and finished parts are kept in --work,
and the same command continues there. Several processes may compute different levels in one folder,
with one thread each; the command without --level then writes the table of all.

The limit of a part is the number of operations of its matrix products and convolutions, divided by
the rate of a float32 product that is measured directly after the part.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _report import table, write_tables
from networks import LEVELS, LOSS, SGD, images, labels, loss, posterior as fitted, said, trained
from scipy.stats import kendalltau
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import bayesgen as bg

PARTS = {
    "train": "training",
    "bring": "L-BFGS to one loss",
    "kron": "precisions by KFAC",
    "before": "GGN, all rows",
    "after": "GGN, rows within the tolerance",
}
# Observations of one pass, and bytes that rows of the Jacobian may take.
BATCH, MEMORY = 128, 6e9


def rate() -> float:
    """Operations per CPU-second of a float32 matrix product, the best of five."""
    a, b = torch.randn(2000, 8000), torch.randn(8000, 2000)
    times = []
    for _ in range(6):
        start = time.process_time()
        a @ b
        times.append(time.process_time() - start)
    return 2 * 2000 * 2000 * 8000 / min(times[1:])


def operations(function: Callable[[], Any]) -> float:
    """Operations of the products and convolutions that a function makes."""
    with FlopCounterMode(display=False) as counter:
        function()
    return float(counter.get_total_flops())


class Counts:
    """Operations of the network, for each image.

    Attributes:
        forward: of a forward pass.
        step: of a forward and a backward pass.
        kron: of the Kronecker factors of all layers.
    """

    def __init__(self, net: nn.Module, x: Tensor, y: Tensor) -> None:
        m = 16
        few, own = x[:m], y[:m]

        def step() -> None:
            nn.functional.cross_entropy(net(few), own).backward()

        self.forward = operations(lambda: net(few)) / m
        self.step = operations(step) / m
        net.zero_grad(set_to_none=True)
        self.kron = operations(lambda: fitted(net, few, own, "kron", 1.0)) / m

    def rows(self, n: int, K: int) -> float:
        """Rows of J: a forward pass, and for each output a backward pass and the weights' rows."""
        return n * self.forward * (1 + 2 * K)


def gram(rows: int, P: int) -> float:
    """A symmetric product of J with itself, the Cholesky factor of the matrix and its inverse."""
    return rows * (rows + 1) * P + rows**3


class Cells:
    """Results by level and part, in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def part(self, level: float, name: str, compute: Callable[[], dict[str, Any]]) -> Any:
        """The result of a part, computed and kept with its times where it is not there."""
        key = f"{level:g} {name}"
        if key not in self.found:
            wall, cpu = time.perf_counter(), time.process_time()
            result = compute()
            result |= {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
            self.found[key] = result | {"rate": rate()}
            self.path.write_text(json.dumps(self.found, indent=1, sort_keys=True) + "\n")
            print(key, self.found[key], flush=True)
        return self.found[key]


def level_of(
    cells: Cells, options: Any, data: Any, x: Tensor, level: float, memory: float
) -> dict[str, Any]:
    """All parts of a level, with the operations of each."""
    n, y = len(x), labels(data, level)
    name = f"figure 1e level {level:g} n {n}"
    brought = options.work / f"{name}.pt"

    def train() -> dict[str, Any]:
        (options.work / f"{name} sgd.pt").unlink(missing_ok=True)
        net, _ = trained(options.work, f"{name} sgd", x, y, "batch", 16, **SGD)
        return {"loss": loss(net, x, y)}

    def network(path: Path | None) -> nn.Module:
        net, _ = trained(options.work, f"{name} sgd", x, y, "batch", 16, **SGD)
        if path is not None:
            net.load_state_dict(torch.load(path, weights_only=True))
        return net.eval()

    def bring() -> dict[str, Any]:
        net = network(None)
        found = bg.fit_map(net, x, y, prior_precision=0.0, height=-LOSS * n)
        torch.save(net.state_dict(), brought)
        return {"evaluations": found.evaluations, "loss": loss(net, x, y)}

    own = {"train": cells.part(level, "train", train), "bring": cells.part(level, "bring", bring)}
    net = network(brought)
    counts, P = Counts(net, x, y), sum(p.numel() for p in net.parameters())

    def evidence(curvature: str, precision: Any, **settings: Any) -> dict[str, Any]:
        start = time.perf_counter()
        found = fitted(net, x, y, curvature, precision, memory=memory, **settings)
        rows = getattr(found._fitted.curvature, "sample", None)
        return said(found, start) | {"rows": 0 if rows is None else rows.count}

    own["kron"] = cells.part(level, "kron", lambda: evidence("kron", "layer"))
    alpha, fixed = torch.tensor(own["kron"]["precision"]), {"hyperparameters": "fixed"}
    if level in options.before:
        own["before"] = cells.part(level, "before", lambda: evidence("ggn", alpha, **fixed))
    tolerant = fixed | {"tolerance": options.tolerance}
    own["after"] = cells.part(level, "after", lambda: evidence("ggn", alpha, **tolerant))
    K = data.num_classes - 1
    made = {
        "train": SGD["epochs"] * n * counts.step,
        "bring": own["bring"]["evaluations"] * n * counts.step,
        "kron": n * counts.kron,
        **{
            kind: counts.rows(n, K) + gram(own[kind]["rows"], P)
            for kind in ("before", "after")
            if kind in own
        },
    }
    return {kind: each | {"operations": made[kind]} for kind, each in own.items()}


NOTES = """PreResNet-20 (width 16, BatchNorm, 272,282 weights), 50 epochs of SGD, then L-BFGS on all
of the data to a loss of 0.001 nats an image; float32. With one thread, the CPU time is the time on
a machine without other work; two processes on two cores take half of it. The limit is the time of
the operations counted, at the rate of a float32 matrix product measured directly after the part. In
it, every evaluation of the L-BFGS counts as one with a gradient, so that the limit may exceed the
time. log p(D)/n is in nats an image; its error is that of what was left out and of rounding."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument(
        "--work", type=Path, required=True, help="where parts and networks are kept"
    )
    parser.add_argument("--train", type=int, default=250)
    parser.add_argument("--level", type=float, action="append")
    parser.add_argument("--before", type=float, action="append", default=[])
    parser.add_argument("--tolerance", type=float, default=0.1, help="nats an image")
    parser.add_argument("--memory", type=float, default=MEMORY, help="bytes of Jacobian rows")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    options.work.mkdir(parents=True, exist_ok=True)
    data, x, _ = images(options.data_dir, options.train, "cpu")
    chosen = options.level or LEVELS
    every = {}
    for level in chosen:
        cells = Cells(options.work / f"figure 1e n {len(x)} level {level:g}.json")
        every[level] = level_of(cells, options, data, x, level, options.memory)
    rows = []
    for level, parts in every.items():
        for kind, one in parts.items():
            cells = [PARTS[kind], *(f"{seconds:.0f}" for seconds in times_of(one))]
            rows.append([f"{level:g}", *cells, *evidence_cells(one)])
        for label, without in (("before", "after"), ("after", "before")):
            if label in parts:
                own = [one for kind, one in parts.items() if kind != without]
                whole = f"{sum(one['cpu'] for one in own):.0f}"
                rows.append([f"{level:g}", f"all, {PARTS[label]}", whole, *[""] * 5])
    head = ("level", "part", "CPU s", "limit s", "rows", "log p(D)/n", "error", "N_eff")
    tables = [table(head, rows)]
    if len(every) > 2:
        values = [parts["after"]["evidence"] for parts in every.values()]
        tau = kendalltau(list(every), values).statistic
        own = [one for parts in every.values() for kind, one in parts.items() if kind != "before"]
        cpu, limit = (sum(times) / 60 for times in zip(*map(times_of, own), strict=True))
        row = [f"{len(every)}", f"{cpu:.1f}", f"{limit:.1f}", f"{tau:.2f}"]
        head = ("levels", "CPU min", "limit min", "Kendall's τ")
        tables.append(table(head, [row]))
    speeds = sorted(one["rate"] / 1e9 for parts in every.values() for one in parts.values())
    rates = f"Float32 products: {speeds[0]:.0f}e9 to {speeds[-1]:.0f}e9 operations per CPU-second."
    given = "".join(f" --level {level:g}" for level in options.level or ())
    given += "".join(f" --before {level:g}" for level in options.before)
    given += f" --tolerance {options.tolerance:g} --threads {options.threads}"
    write_tables(
        f"figure_1e_{len(x)}",
        f"Time of the evidence of PreResNet-20 under corruption, n = {len(x):,}",
        f"python benchmarks/figure_1e.py --data-dir DIR --work DIR --train {len(x)}{given}",
        tables,
        f"{NOTES}\n{rates}",
    )


def times_of(part: dict[str, Any]) -> tuple[float, float]:
    """CPU seconds of a part, and the limit."""
    return part["cpu"], part["operations"] / part["rate"]


def evidence_cells(part: dict[str, Any]) -> list[str]:
    """Number of rows, evidence, its error and N_eff of a part, or nothing."""
    if not part.get("rows"):
        return [""] * 4
    return [
        f"{part['rows']:,}",
        f"{part['evidence']:.5f}",
        f"{part['error']:.1g}",
        f"{part['effective_dimension']:.0f}",
    ]


if __name__ == "__main__":
    main()

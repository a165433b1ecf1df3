"""PreResNet-20 on CIFAR-10: Laplace's evidence against label corruption, and what lifts it.

python benchmarks/networks.py --data-dir DIR --work DIR [--part levels|start|mode|tangent]
    [--train N] [--seed S] [--device cuda] [--cells FILE] [--merge FILE]

Levels: one network with BatchNorm for each share of labels redrawn, trained to fit them and brought
to one training loss, and its evidence with a prior precision for each layer, by Kronecker factors
and by the exact GGN. Start: the linear model in a network's weights before it has seen a label, at
its own mode, which Newton's method finds. Mode: networks without norms (Fixup), taken towards a
mode, and their evidence by the exact GGN there; tangent: the linear model in their trained weights.
The networks are kept in --work, cells as they end in --cells, benchmarks/results/networks.json
unless another is named, and the tables are made of all that are there; --merge takes over another
run's.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _report import RESULTS, write
from scipy.stats import kendalltau
from torch import Tensor, nn

import bayesgen as bg
from bayesgen.experiments.networks import standardised

STORE = RESULTS / "networks.json"
LEVELS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
PARTS = ("levels", "start", "mode", "tangent", "train", "report")


def images(folder: str, train: int, device: str) -> tuple[bg.data.Dataset, Tensor, Tensor]:
    """The data, and its images standardised by channel, (n, 3, 32, 32)."""
    data = bg.data.load(
        "cifar10", train=train, test=2000, data_dir=folder, dtype=torch.float32, device=device
    )
    x, new = (part.contiguous(memory_format=torch.channels_last) for part in standardised(data))
    return data, x, new


def labels(data: bg.data.Dataset, level: float, seed: int = 0) -> Tensor:
    """Those of training, this share of them redrawn."""
    return bg.corrupt_labels(data.y_train, level, num_classes=10, seed=seed)[0]


def errors(
    net: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, new: Tensor, truth: Tensor
) -> dict[str, float]:
    """What a cell says of the network itself."""

    def wrong(x: Tensor, y: Tensor) -> float:
        with torch.no_grad():
            scores = torch.cat([net(rows) for rows in x.split(250)])
        return float((scores.argmax(1) != y).float().mean())

    return {"n": len(x), "train_error": wrong(x, y), "test_error": wrong(new, truth)}


class Store:
    """Cells by name, on disk as they end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cells: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def keep(self, name: str, **cell: Any) -> None:
        """Add to a cell."""
        self.cells[name] = self.cells.get(name, {}) | cell
        self.write()
        print(name, cell, flush=True)

    def write(self) -> None:
        """All cells as they are."""
        self.path.write_text(json.dumps(self.cells, indent=1, sort_keys=True) + "\n")


def posterior(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    curvature: str,
    precision: Any,
    mode: str = "weights",
    hyperparameters: str = "evidence",
    dtype: torch.dtype = torch.float32,
    memory: float = 1.05e10,
    tolerance: float = 0.0,
) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        laplace = bg.Laplace(
            net,
            prior_precision=precision,
            curvature=curvature,
            mode=mode,
            hyperparameters=hyperparameters,
            dtype=dtype,
            batch=128 if x.device.type == "cpu" else 500,
            memory=memory,
            tolerance=tolerance,
        )
        return laplace.fit(x, y)


def said(posterior: Any, start: float) -> dict[str, Any]:
    """What a cell says of an evidence that was begun at `start`."""
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


def evidence(*args: Any, **settings: Any) -> dict[str, Any]:
    """See `posterior`."""
    start = time.perf_counter()
    return said(posterior(*args, **settings), start)


def trained(
    work: Path, name: str, x: Tensor, y: Tensor, norm: str, width: int, **settings: Any
) -> tuple[nn.Module, Any]:
    """The network of this name, from its checkpoint where that is complete."""
    torch.manual_seed(settings.get("seed", 0))
    net = bg.networks.PreResNet20(width, norm=norm).to(x.device, memory_format=torch.channels_last)
    run = bg.train(net, x, y, checkpoint=work / f"{name}.pt", **settings)
    return net, run


SGD = {"epochs": 50, "learning_rate": 0.1, "prior_precision": 0.5}
# Nats an image, below what SGD left of any of 18 networks, 0.0014 to 0.0048. What is fitted closer
# looks flatter, and which labels are fitted closest is luck.
LOSS = 0.001


def cell_name(kind: str, level: float, n: int, seed: int = 0) -> str:
    return f"{kind} level {level} n {n}" + (f" seed {seed}" if seed else "")


def loss(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """−log p(D | θ), nats an image."""
    with torch.no_grad():
        pairs = zip(x.split(250), y.split(250), strict=True)
        total = sum(nn.functional.cross_entropy(net(a), b, reduction="sum") for a, b in pairs)
    return float(total) / len(x)


def bring(path: Path, net: nn.Module, x: Tensor, y: Tensor, loss: float) -> None:
    """A trained network to that loss, by full batches."""
    if path.exists():
        net.load_state_dict(torch.load(path, weights_only=True, map_location=x.device))
        return
    print(path.stem, bg.fit_map(net, x, y, prior_precision=0.0, height=-loss * len(x)), flush=True)
    torch.save(net.state_dict(), path)


CURVATURES = ("kron", "ggn")


def levels(
    store: Store,
    work: Path,
    data: Any,
    x: Tensor,
    new: Tensor,
    chosen: Any,
    curvatures: Any,
    seed: int,
    at: float,
    memory: float,
) -> None:
    for level in chosen:
        trained_name = cell_name("sgd", level, len(x), seed)
        name = f"{trained_name} loss {at:g}"
        y = labels(data, level, seed)

        def describe(name: str, net: nn.Module, level: float = level, y: Tensor = y) -> None:
            store.keep(
                name,
                level=level,
                seed=seed,
                loss=loss(net, x, y),
                **errors(net, x, y, new, data.y_test),
                kron=evidence(net, x, y, "kron", "layer"),
            )

        if all(kind in store.cells.get(name, {}) for kind in curvatures):
            continue
        net, _ = trained(work, trained_name, x, y, "batch", 16, seed=seed, **SGD)
        net.eval()
        if trained_name not in store.cells:
            describe(trained_name, net)
        bring(work / f"{name}.pt", net, x, y, at)
        if name not in store.cells:
            describe(name, net)
            store.keep(name, at=at)
        if "ggn" in curvatures and "ggn" not in store.cells[name]:
            alpha = torch.tensor(store.cells[name]["kron"]["precision"])
            fixed = {"hyperparameters": "fixed", "memory": memory}
            store.keep(name, ggn=evidence(net, x, y, "ggn", alpha, **fixed))


# Without norms a precision means something, and there is a mode: Adam fits the labels, then L-BFGS
# on all of the data climbs the log posterior, and goes on, with a longer memory, where that is not
# enough.
WIDTH, ALPHA = 8, 5.0
CLIMBS = ({"steps": 400, "pairs": 30}, {"steps": 400, "pairs": 100})
FIT = {"epochs": 80, "optimiser": "adam", "learning_rate": 2e-3, "batch": 25}


def states(work: Path, name: str, rounds: int) -> list[Path]:
    """Where a network is kept: fitted, and after each round."""
    ways = ["fitted", *(f"climbed {number + 1}" for number in range(rounds))]
    return [work / f"{name} {way}.pt" for way in ways]


def kept(path: Path, x: Tensor) -> nn.Module:
    net = bg.networks.PreResNet20(WIDTH, norm="none")
    net.load_state_dict(torch.load(path, weights_only=True, map_location=x.device))
    return net.to(x.device, memory_format=torch.channels_last)


def fitted(work: Path, name: str, x: Tensor, y: Tensor, seed: int) -> nn.Module:
    """The network with its labels fitted, without a prior."""
    (path,) = states(work, name, 0)
    if path.exists():
        return kept(path, x)
    net, _ = trained(work, name, x, y, "none", WIDTH, seed=seed, **FIT)
    torch.save(net.state_dict(), path)
    return net


def fixup(work: Path, level: float, x: Tensor, y: Tensor, rounds: int, seed: int) -> nn.Module:
    """The network after so many rounds; the seed is that of weights, order and corruption."""
    name = cell_name("fixup", level, len(x), seed)
    paths = states(work, name, rounds)
    done = max((k for k, path in enumerate(paths) if path.exists()), default=0)
    net = kept(paths[done], x) if done else fitted(work, name, x, y, seed)
    for number in range(done, rounds):
        settings = CLIMBS[min(number, 1)] | {"batch": 250 if x.device.type == "cpu" else 500}
        print(name, bg.fit_map(net, x, y, prior_precision=ALPHA, **settings), flush=True)
        torch.save(net.state_dict(), paths[number + 1])
    return net


def at_modes(
    store: Store,
    work: Path,
    data: Any,
    x: Tensor,
    new: Tensor,
    chosen: Any,
    most: int,
    near: float,
    double: bool,
    seed: int,
    memory: float,
    dtype: torch.dtype,
) -> None:
    fixed = {"hyperparameters": "fixed", "memory": memory}
    for level in chosen:
        name = cell_name("fixup", level, len(x), seed)
        y = labels(data, level, seed)
        cell = store.cells.get(name, {"rounds": 0})
        while not cell["rounds"] or (cell["ggn"]["gain"] > near and cell["rounds"] < most):
            rounds = cell["rounds"] + 1
            net = fixup(work, level, x, y, rounds, seed)
            found = evidence(net, x, y, "ggn", ALPHA, dtype=dtype, **fixed)
            store.cells.get(name, {}).pop("float64", None)  # of the round before
            way = [*cell.get("way", []), [found["evidence"], found["gain"]]]
            store.keep(
                name,
                way=way if len(way) == rounds else way[-1:],
                fixup=level,
                seed=seed,
                rounds=rounds,
                **errors(net, x, y, new, data.y_test),
                squares=squares(net),
                ggn=found,
            )
            cell = store.cells[name]
        if double and "float64" not in cell:
            net = fixup(work, level, x, y, cell["rounds"], seed)
            found = evidence(net, x, y, "ggn", ALPHA, dtype=torch.float64, **fixed)
            store.keep(name, float64=found)


def squares(net: nn.Module) -> float:
    """‖θ‖²."""
    return sum(float(p.detach().square().sum()) for p in net.parameters())


# Where only J matters, not the mode: width 16, fitted, then some epochs with a weak prior.
TANGENT_FIT = {"epochs": 80, "optimiser": "adam", "learning_rate": 1e-3, "batch": 25}
TANGENT_END = {
    "epochs": 60,
    "optimiser": "adam",
    "learning_rate": 5e-4,
    "batch": 25,
    "prior_precision": 0.5,
}


def tangent(store: Store, work: Path, data: Any, x: Tensor, new: Tensor, chosen: Any) -> None:
    for level in chosen:
        name = cell_name("tangent", level, len(x))
        if "tangent" in store.cells.get(name, {}):
            continue
        y = labels(data, level)
        net, _ = trained(work, name, x, y, "none", 16, **TANGENT_FIT)
        bg.train(net, x, y, checkpoint=work / f"{name} end.pt", **TANGENT_END)
        store.keep(
            name,
            tangent_level=level,
            **errors(net, x, y, new, data.y_test),
            tangent=evidence(net, x, y, "ggn", 500.0, mode="tangent", memory=4e9),
        )


# What the network is before it has seen a label: J at its first weights owes the labels nothing.
UNTRAINED_ALPHA = 1.0


def untrained(x: Tensor, seed: int) -> nn.Module:
    """PreResNet-20 (width 16) as it starts, its norms' statistics those of the images."""
    torch.manual_seed(seed)
    net = bg.networks.PreResNet20(16).to(x.device, memory_format=torch.channels_last)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all passes, of which there is one
            module.reset_running_stats()
    with torch.no_grad():
        net.train()(x)
    return net.eval()


def at_the_start(
    store: Store, data: Any, x: Tensor, new: Tensor, chosen: Any, seed: int, memory: float
) -> None:
    net = untrained(x, seed)
    for level in chosen:
        name = cell_name("start", level, len(x), seed)
        if name in store.cells:
            continue
        y = labels(data, level, seed)
        start = time.perf_counter()
        fixed = {"hyperparameters": "fixed", "memory": memory}
        found = posterior(net, x, y, "ggn", UNTRAINED_ALPHA, mode="tangent", **fixed)
        store.keep(
            name,
            start_level=level,
            seed=seed,
            **errors(found.mean, x, y, new, data.y_test),
            start=said(found, start),
        )


NOTES = """Trained to one loss: PreResNet-20 (width 16, BatchNorm), 50 epochs of SGD with weight
decay 5e-4 on CIFAR-10 (JPEG), then by L-BFGS on all of the data to a training loss of 0.0014 nats
an image, just below what SGD left anywhere (and to 0.001); Laplace about the weights
there, float32. KFAC: Kronecker factors, the precision of each layer that of maximum evidence. GGN:
exact, through function space, at those same precisions. As SGD leaves them: the same networks
before, each at a loss of its own.

First weights: PreResNet-20 (width 16, BatchNorm with the images' statistics) before it has seen a
label, Jθ with θ ~ N(0, I), the exact GGN at its mode; train and test error are that model's. No
weight was learnt, so nothing is left unpaid.

Fixup: width 8, no norms, 80 epochs of Adam without a prior to fit the labels, then L-BFGS on the
log posterior with α = 5, 400 steps at a time until a Newton step would gain less than 0.05 nats an
image; there Laplace with the exact GGN at the same α, in float64 where the error says so.

Fixup, tangent kernel: width 16, no norms, Adam (80 epochs without a prior, 60 with α = 0.5), then
Laplace at the mode of Jθ, α of maximum evidence. J was learnt from the same labels and is not paid
for, which is why even random labels earn more than guessing.

In brackets, what rounding may have done to it: for Fixup's tangent kernel at worst, else as
measured on 16 images; KFAC, whose cells are older than such a statement, says 2e-5. Gain: nats an
image that a Newton step to the mode at that precision would gain by the quadratic model. Guessing
uniformly earns −2.303; what is below it says that this posterior explains the labels worse than
guessing."""


def report(store: Store, n: int) -> None:
    rows = []
    every = [cell for cell in store.cells.values() if cell["n"] == n]
    losses = sorted({cell["at"] for cell in every if "at" in cell}, reverse=True)
    for key, kind, at, words in (
        *(("level", "kron", at, f"Trained to a loss of {at:g}, KFAC") for at in losses),
        *(("level", "ggn", at, f"Trained to a loss of {at:g}, GGN") for at in losses),
        ("level", "kron", None, "As SGD leaves them, KFAC"),
        ("start_level", "start", None, "First weights, tangent kernel"),
        ("fixup", "ggn", None, "Fixup, GGN"),
        ("tangent_level", "tangent", None, "Fixup, tangent kernel"),
    ):
        cells = [cell for cell in every if key in cell and kind in cell and cell.get("at") == at]
        together: dict[float, list[float]] = {}
        for seed in sorted({cell.get("seed", 0) for cell in cells}):
            own = [cell for cell in cells if cell.get("seed", 0) == seed]
            which = f", seed {seed}" if seed else ""
            pairs = []
            for cell in sorted(own, key=lambda cell, key=key: cell[key]):
                one = cell.get("float64", cell[kind]) if key == "fixup" else cell[kind]
                pairs.append((cell[key], one["evidence"]))
                together.setdefault(cell[key], []).append(one["evidence"])
                rows.append((f"{words}{which}, level {cell[key]:g}", described(cell, one)))
            if len(pairs) > 2:
                tau = kendalltau(*zip(*pairs, strict=True)).statistic
                rows.append((f"Kendall τ, {words}{which}", f"{tau:.2f} ({len(pairs)} levels)"))
        if len(together) > 2 and min(len(values) for values in together.values()) > 1:
            means = {level: sum(values) / len(values) for level, values in together.items()}
            tau = kendalltau(list(means), list(means.values())).statistic
            rows.append(
                (
                    f"{words}, means over seeds",
                    ", ".join(f"{mean:.3f}" for mean in means.values()) + f"; Kendall τ {tau:.2f}",
                )
            )
    write(
        "networks",
        f"Laplace evidence of PreResNet-20, n = {n:,}, nats an image",
        f"python benchmarks/networks.py --data-dir DIR --work DIR --train {n}",
        rows,
        NOTES,
    )


def described(cell: dict[str, Any], one: dict[str, Any]) -> str:
    """A cell and one of its evidences in a line."""
    unsure = f" (±{one['error']:.2g})" if one["error"] else ""
    fitted = f"loss {cell['loss']:.5f}; " if "loss" in cell else ""
    return (
        f"train error {cell['train_error']:.3f}, test error {cell['test_error']:.3f}; {fitted}"
        f"{one['evidence']:.3f}{unsure}, "
        f"N_eff {one['effective_dimension']:,.0f}, gain {one['gain']:.2f}"
        + "".join(
            f"; after {400 * (k + 1)} steps {value:.3f}, gain {gain:.2f}"
            for k, (value, gain) in enumerate(cell.get("way", [])[:-1])
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--work", type=Path, required=True, help="where trained networks are kept")
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--level", type=float, action="append")
    parser.add_argument("--curvature", choices=CURVATURES, action="append")
    parser.add_argument("--rounds", type=int, default=5, help="towards a mode, at most")
    parser.add_argument("--near", type=float, default=0.05, help="nats an image left to gain")
    parser.add_argument("--loss", type=float, default=LOSS, help="of levels, nats an image")
    parser.add_argument("--double", action="store_true", help="and in float64, of mode")
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of all parts but tangent")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory", type=float, default=1.05e10, help="bytes of Jacobian rows")
    parser.add_argument("--dtype", default="float32", help="of the evidence at modes")
    parser.add_argument("--cells", type=Path, default=STORE)
    parser.add_argument("--merge", type=Path, action="append")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    options.work.mkdir(parents=True, exist_ok=True)
    store = Store(options.cells)
    for path in options.merge or ():
        store.cells |= json.loads(path.read_text())
        store.write()
    data, x, new = images(options.data_dir, options.train, options.device)
    parts = options.part or ["levels", "start", "mode", "tangent"]
    if "levels" in parts:
        chosen, curvatures = options.level or LEVELS, options.curvature or CURVATURES
        where = (options.seed, options.loss, options.memory)
        levels(store, options.work, data, x, new, chosen, curvatures, *where)
    if "mode" in parts:
        at_modes(
            store,
            options.work,
            data,
            x,
            new,
            options.level or LEVELS,
            options.rounds,
            options.near,
            options.double,
            options.seed,
            options.memory,
            getattr(torch, options.dtype),
        )
    if "tangent" in parts:
        tangent(store, options.work, data, x, new, options.level or LEVELS)
    if "start" in parts:
        chosen = options.level or LEVELS
        at_the_start(store, data, x, new, chosen, options.seed, options.memory)
    if "train" in parts:  # what "mode" wants, to be run side by side
        for level in options.level or LEVELS:
            y = labels(data, level, options.seed)
            fixup(options.work, level, x, y, options.rounds, options.seed)
        return
    report(store, options.train)


if __name__ == "__main__":
    main()

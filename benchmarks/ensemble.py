"""Networks of all levels and seeds trained as one ensemble, against one after another, in one run.

python benchmarks/ensemble.py --data-dir DIR [--device cuda] [--train N] [--epochs N] [--threads N]

A corruption study's own networks on CIFAR-10, six levels and two seeds of each: seconds an epoch of
all twelve, after one epoch that is not counted, and by how much the losses of the last epoch
differ.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from _report import write

import bayesgen as bg
from bayesgen.experiments.networks import NETWORKS, seeded

LEVELS, SEEDS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), (0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    kind, device = torch.float32, torch.device(options.device)
    data = bg.data.load(
        "cifar10", train=options.train, test=100, data_dir=options.data_dir, dtype=kind,
        device=device,
    )  # fmt: skip
    labels, seeds = [], []
    for level in LEVELS:
        for seed in SEEDS:
            labels.append(bg.corrupt_labels(data.y_train, level, num_classes=10, seed=seed)[0])
            seeds.append(seed)
    y = torch.stack(labels)

    def timed(train: Callable[[], list[float]]) -> tuple[float, list[float]]:
        start = time.perf_counter()
        losses = train()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start, losses

    rows = []
    for name, architecture in NETWORKS.items():
        x, _ = architecture.inputs(data)

        def nets(architecture=architecture, x=x) -> list[torch.nn.Module]:
            return [seeded(seed, lambda: architecture.make(data)).to(x) for seed in seeds]

        def together(epochs: int, architecture=architecture, x=x, nets=nets) -> list[float]:
            settings = architecture.settings | {"epochs": epochs, "seed": 0}
            return bg.train_ensemble(nets(), x, y, **settings).iloc[-1].tolist()

        def alone(epochs: int, architecture=architecture, x=x, nets=nets) -> list[float]:
            settings = architecture.settings | {"epochs": epochs, "seed": 0}
            runs = [bg.train(n, x, own, **settings) for n, own in zip(nets(), y, strict=True)]
            return [run.history.loss.iloc[-1] for run in runs]

        found = {}
        for way in (together, alone):
            way(1)
            found[way.__name__] = timed(lambda way=way: way(options.epochs))
        seconds = {way: time / options.epochs for way, (time, _) in found.items()}
        off = max(abs(a - b) for a, b in zip(found["together"][1], found["alone"][1], strict=True))
        rows.append(
            (
                name,
                f"ensemble {seconds['together']:.3f} s, one after another {seconds['alone']:.3f} s "
                f"an epoch: {seconds['alone'] / seconds['together']:.1f} times; losses differ by "
                f"{off:.1g} at most",
            )
        )
        print(rows[-1], flush=True)
    write(
        f"ensemble_{device.type}",
        f"{len(y)} networks on CIFAR-10 (JPEG), n = {options.train:,}",
        f"python benchmarks/ensemble.py --data-dir DIR --device {options.device} "
        f"--train {options.train} --epochs {options.epochs} --threads {options.threads}",
        rows,
        "Levels 0, 0.2, …, 1 of corruption, two seeds each.",
    )


if __name__ == "__main__":
    main()

"""Compressed convolutional networks on Fashion-MNIST: bits, risks, and what is certified.

python benchmarks/compression.py --data-dir DIR

DIR holds Fashion-MNIST's gzipped IDX files. The settings are stated here, and each bound pays for
the choice among them.
"""

from __future__ import annotations

import argparse

import torch
from _report import timed, write
from torch import nn

import bayesgen as bg
from bayesgen import pacbayes
from bayesgen.pacbayes.compression.compressed_network import zero_one_risk

# dimension of the subspace, levels
SETTINGS = ((500, 5), (500, 7), (800, 7))
PUBLISHED = 0.328


def network() -> nn.Module:
    """Three convolutions and a linear layer, 19,434 weights."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, help="Fashion-MNIST's gzipped IDX files")
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = bg.data.load("fashion-mnist", data_dir=options.data_dir, dtype=torch.float32)
    x, x_test = (part.reshape(-1, 1, 28, 28) for part in (data.x_train, data.x_test))
    rows = [("dimension, levels", "bound · theorem 3.1 · training risk · test risk · bits · s")]
    for dimension, levels in SETTINGS:
        seconds, small = timed(
            lambda k=dimension, L=levels: pacbayes.compress(
                network(),
                x,
                data.y_train,
                dimension=k,
                levels=L,
                projection="sparse",
                epochs=options.epochs,
                quantised_epochs=options.epochs // 2 + 1,
                progress=lambda done, of, what: print(f"{done}/{of} {what}", flush=True),
            )
        )
        tight = small.certificate(candidates=len(SETTINGS))
        print(tight, flush=True)
        loose = small.certificate(candidates=len(SETTINGS), bound="countable")
        test = zero_one_risk(small.decoded(), x_test, data.y_test)
        cells = f"**{tight.bound:.3f}** · {loose.bound:.3f} · {small.risk:.3f} · {test:.3f}"
        rows.append((f"{dimension}, {levels}", f"{cells} · {small.bits:,} · {seconds:.0f}"))
    rows.append(("Lotfi et al. (2022)", f"{PUBLISHED:.3f}"))
    write(
        "compression",
        "Compressed networks on Fashion-MNIST, δ = 0.05",
        "python benchmarks/compression.py --data-dir DIR",
        rows,
        f"All 60,000 training images, {options.epochs} + {options.epochs // 2 + 1} epochs. The "
        f"bound is the inverse binary kl (`occam`) and pays ln {len(SETTINGS)} for the choice of "
        "settings; theorem 3.1 is Wilson's (2025) of the same code. The risks are of the weights "
        "that the bytes decode to.",
    )


if __name__ == "__main__":
    main()

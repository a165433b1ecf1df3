"""Compressed convolutional networks on Fashion-MNIST: bits, risks, and what is certified.

python benchmarks/compression.py --data-dir DIR [--store FOLDER] [--only convolutional|pretrained]

DIR holds Fashion-MNIST's gzipped IDX files. The settings are stated here, and each bound pays for
the choice among them. The row "pretrained" needs the extra `pretrained`: a linear layer on
principal components of features of EfficientNet-Lite0 and of random filters, which are found from
the test images without their labels. Features are kept in --store. Rows are kept in
benchmarks/results/compression.json as they end.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from _report import RESULTS, timed, write
from torch import Tensor, nn

import bayesgen as bg
from bayesgen import pacbayes
from bayesgen.pacbayes.compression.compressed_network import zero_one_risk

# dimension of the subspace, levels
SETTINGS = ((500, 5), (500, 7), (800, 7))
# Of the pretrained row: components, levels, power of the singular values that divides components,
# weight of the code length, and epochs; chosen among fewer than so many settings.
COMPONENTS, LEVELS, POWER, ENTROPY, EPOCHS, CANDIDATES = 80, 6, 0.1, 0.1, 25, 100
LAYERS = ("stage4", "stage5", "stage6", "stage7", "head")
SIZE, FILTERS, WEIGHT = 64, 200, 2.0
PUBLISHED = (("published", 0.328), ("published, pretrained on ImageNet", 0.282))
STORE = RESULTS / "compression.json"


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


def components(data: bg.data.Dataset, store: Path) -> tuple[Tensor, Tensor]:
    """Principal components (n, COMPONENTS) of joined features, for training and test images.

    The features of each layer are standardised and scaled to rows of unit length; those of random
    filters are centred and scaled to length WEIGHT. The test images alone give all statistics.
    """
    image = (1, 28, 28)
    both: tuple[list[Tensor], list[Tensor]] = ([], [])
    for layer in LAYERS:
        train, test = (
            bg.pretrained.features(
                "efficientnet-lite0", x, image=image, layer=layer, size=SIZE, store=store
            )
            for x in (data.x_train, data.x_test)
        )
        mean, size = test.mean(0), test.std(0).clamp(min=1e-6)
        for of, x in zip(both, (train, test), strict=True):
            of.append(nn.functional.normalize((x - mean) / size, dim=1))
    filters = bg.bases.Convolutional(FILTERS, image=image).map
    train, test = (torch.cat([filters(p) for p in x.split(5_000)]).double() for x in
                   (data.x_train, data.x_test))  # fmt: skip
    mean = test.mean(0)
    for of, x in zip(both, (train, test), strict=True):
        of.append(WEIGHT * nn.functional.normalize(x - mean, dim=1))
    joined = torch.cat(both[1], 1)
    mean = joined.mean(0)
    values, vectors = torch.linalg.eigh((joined - mean).mT @ (joined - mean))
    scale = values.flip(0)[:COMPONENTS] ** (-POWER / 2)
    directions = vectors.flip(1)[:, :COMPONENTS] * scale
    x_test = (joined - mean) @ directions
    unit = x_test.std()
    return ((torch.cat(both[0], 1) - mean) @ directions / unit).float(), (x_test / unit).float()


def row(
    net: nn.Module,
    x: tuple[Tensor, Tensor],
    data: bg.data.Dataset,
    candidates: int,
    **settings: object,
) -> dict[str, float]:
    """Bounds, risks, bits and seconds of one code."""
    progress = {"progress": lambda done, of, what: print(f"{done}/{of} {what}", flush=True)}
    seconds, small = timed(
        lambda: pacbayes.compress(net, x[0], data.y_train, **settings, **progress)
    )
    tight = small.certificate(candidates=candidates)
    print(tight, flush=True)
    return {
        "bound": tight.bound,
        "countable": small.certificate(candidates=candidates, bound="countable").bound,
        "risk": small.risk,
        "test": zero_one_risk(small.decoded(), x[1], data.y_test),
        "bits": small.bits,
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, help="Fashion-MNIST's gzipped IDX files")
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--store", type=Path, default=Path("features"), help="folder for features")
    parser.add_argument("--only", choices=("convolutional", "pretrained"), help="only these rows")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = bg.data.load("fashion-mnist", data_dir=options.data_dir, dtype=torch.float32)
    kept = json.loads(STORE.read_text()) if STORE.exists() else {}
    if options.only != "pretrained":
        x, x_test = (part.reshape(-1, 1, 28, 28) for part in (data.x_train, data.x_test))
        for dimension, levels in SETTINGS:
            kept[f"{dimension}, {levels}"] = row(
                network(),
                (x, x_test),
                data,
                len(SETTINGS),
                dimension=dimension,
                levels=levels,
                projection="sparse",
                epochs=options.epochs,
                quantised_epochs=options.epochs // 2 + 1,
            )
            STORE.write_text(json.dumps(kept, indent=1) + "\n")
    if options.only != "convolutional":
        net = nn.Linear(COMPONENTS, 10)
        kept["pretrained"] = row(
            net,
            components(data, options.store),
            data,
            CANDIDATES,
            dimension=sum(p.numel() for p in net.parameters()),
            levels=LEVELS,
            projection="identity",
            entropy=ENTROPY,
            learning_rate=0.1,
            epochs=EPOCHS,
            quantised_epochs=EPOCHS // 2 + 1,
        )
        STORE.write_text(json.dumps(kept, indent=1) + "\n")
    report(kept, options.epochs)


def report(kept: dict[str, dict[str, float]], epochs: int) -> None:
    """The table of all rows that are in the store."""
    rows = [("dimension, levels", "bound · theorem 3.1 · training risk · test risk · bits · s")]
    for name, of in kept.items():
        cells = (
            f"**{of['bound']:.3f}** · {of['countable']:.3f} · {of['risk']:.3f} · {of['test']:.3f}"
        )
        rows.append((name, f"{cells} · {of['bits']:,.0f} · {of['seconds']:.0f}"))
    rows += [(f"Lotfi et al. (2022), {name}", f"{bound:.3f}") for name, bound in PUBLISHED]
    write(
        "compression",
        "Compressed networks on Fashion-MNIST, δ = 0.05",
        "python benchmarks/compression.py --data-dir DIR",
        rows,
        f"All 60,000 training images, {epochs} + {epochs // 2 + 1} epochs. The "
        f"bound is the inverse binary kl (`occam`) and pays ln {len(SETTINGS)} for the choice of "
        "settings; theorem 3.1 is Wilson's (2025) of the same code. The risks are of the weights "
        f"that the bytes decode to. Pretrained: a linear layer on {COMPONENTS} principal "
        f"components of features of EfficientNet-Lite0 at side length {SIZE} and of {FILTERS} "
        "random filters, "
        f"with {LEVELS} levels for each of its weights, {EPOCHS} + {EPOCHS // 2 + 1} epochs; all "
        "statistics of the features are of the test images without their labels. Its settings were "
        f"chosen on the training images among fewer than {CANDIDATES}, and the bound pays ln "
        f"{CANDIDATES}. Seconds are those of the training, without the features.",
    )


if __name__ == "__main__":
    main()

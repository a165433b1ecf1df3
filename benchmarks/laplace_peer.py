"""Laplace's evidence beside laplace-torch: the same numbers, and how long they take.

python benchmarks/laplace_peer.py [--images N] [--threads N]

pip install --no-deps laplace-torch torchmetrics lightning-utilities

An MLP on digits (the whole GGN fits both), then PreResNet-20 on random images (its whole GGN, P =
272,000 squared, is 300 GB to a peer that forms it), prior precision and weights the same, float32.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from importlib import metadata
from importlib.machinery import ModuleSpec
from typing import Any
from unittest.mock import MagicMock

# laplace-torch imports a back end, asdl, that is not on PyPI and not used here; torchmetrics, which
# it imports too, wants torchvision for image metrics that nobody calls. Stand-ins spare both.
for _name in ("", ".transforms", ".models", ".models.feature_extraction"):
    sys.modules[f"torchvision{_name}"] = MagicMock(
        __spec__=ModuleSpec(f"torchvision{_name}", None), __version__="0.28.0"
    )

for _name in ("", ".fisher", ".grad_maker", ".gradient", ".hessian", ".matrices", ".precondition"):
    sys.modules.setdefault(f"asdl{_name}", MagicMock(__spec__=ModuleSpec(f"asdl{_name}", None)))

import laplace  # noqa: E402
import torch  # noqa: E402
from _report import median, write  # noqa: E402
from laplace.curvature import CurvlinopsGGN  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

import bayesgen as bg  # noqa: E402

# Ours, and the peer's subset of weights and structure.
PAIRS = {
    "ggn": ("all", "full"),
    "kron": ("all", "kron"),
    "diag": ("all", "diag"),
    "last_layer": ("last_layer", "full"),
}


def ours(net: nn.Module, x: Tensor, y: Tensor, curvature: str, batch: int) -> float:
    laplace = bg.Laplace(
        net, prior_precision=1.0, curvature=curvature, hyperparameters="fixed",
        dtype=torch.float32, batch=batch,
    )  # fmt: skip
    return float(laplace.fit(x, y).evidence.log_marginal_likelihood)


def peers(net: nn.Module, x: Tensor, y: Tensor, curvature: str, batch: int) -> float:
    subset, structure = PAIRS[curvature]
    model = laplace.Laplace(
        net, "classification", subset_of_weights=subset, hessian_structure=structure,
        prior_precision=1.0, backend=CurvlinopsGGN,
    )  # fmt: skip
    model.fit(DataLoader(TensorDataset(x, y), batch_size=batch))
    return float(model.log_marginal_likelihood())


def compare(
    name: str, net: nn.Module, x: Tensor, y: Tensor, curvatures: Any, batch: int, repeats: int
) -> list[tuple[str, str]]:
    rows = []
    for curvature in curvatures:
        values = [run(net, x, y, curvature, batch) for run in (ours, peers)]
        seconds = [
            median(lambda run=run, c=curvature: run(net, x, y, c, batch), repeats)
            for run in (ours, peers)
        ]
        gap = abs(values[0] / values[1] - 1)
        rows.append(
            (
                f"{name}, {curvature}",
                f"{values[0]:,.3f} and {values[1]:,.3f} nats (relative gap {gap:.0e}); "
                f"{seconds[0]:.2f} and {seconds[1]:.2f} s, ×{seconds[1] / seconds[0]:.1f}",
            )
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    data = bg.data.load("digits", train=500, test=100, dtype=torch.float32)
    torch.manual_seed(0)
    net = bg.networks.MLP(64, (30,), 10)
    bg.train(
        net, data.x_train, data.y_train, epochs=60, optimiser="adam", learning_rate=3e-3,
        prior_precision=1.0,
    )  # fmt: skip
    rows = compare("MLP, digits, n = 500", net, data.x_train, data.y_train, PAIRS, 100, 9)
    x, y = torch.randn(options.images, 3, 32, 32), torch.randint(10, (options.images,))
    for name, net, few in (
        ("ConvNet (width 16)", bg.networks.ConvNet(16), ("kron", "last_layer")),
        ("PreResNet-20", bg.networks.PreResNet20(), ("last_layer",)),
    ):
        bg.train(net, x, y, epochs=2, batch=64, learning_rate=0.05)
        rows += compare(f"{name}, n = {options.images}", net, x, y, few, 64, 7)
    start = time.perf_counter()
    value = ours(net, x, y, "ggn", 64)
    took = time.perf_counter() - start
    P = sum(p.numel() for p in net.parameters())
    rows.append(
        (
            f"PreResNet-20, n = {options.images}, ggn",
            f"{value:,.3f} nats in {took:.1f} s; the peer's P × P matrix, P = {P:,}, would take "
            f"{4 * P**2 / 1e9:,.0f} GB, and its Kronecker factors refuse BatchNorm",
        )
    )
    write(
        "laplace_peer",
        "Laplace evidence beside laplace-torch",
        f"OMP_WAIT_POLICY=passive python benchmarks/laplace_peer.py --images {options.images} "
        f"--threads {options.threads}",
        rows,
        "Evidence and seconds, bayesgen first, then laplace-torch "
        f"{metadata.version('laplace-torch')} (curvlinops), ×: how many times as long the peer "
        "takes. Weights, prior precision and batches are the same.",
    )


if __name__ == "__main__":
    main()

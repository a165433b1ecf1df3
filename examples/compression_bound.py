"""A bound on the error of a network from the length of its code.

A network is trained in a random subspace, rounded to a few levels and encoded. With probability
0.95 its error on new data is at most the bound, which depends on the training error and on the
number of bits. On random labels no short code fits, and the bound says so.

    python examples/compression_bound.py
"""

import torch
from matplotlib.figure import Figure

import bayesgen as bg

DIMENSIONS = (25, 50, 100, 200)


def main() -> dict[str, list[bg.pacbayes.Compressed]]:
    data = bg.data.load("digits", dtype=torch.float32)
    random, _ = bg.corrupt_labels(data.y_train, 1.0, num_classes=10, seed=0)
    net = bg.networks.MLP(64, (64,), 10)
    found = {
        name: [
            bg.pacbayes.compress(net, data.x_train, y, dimension=k, levels=5, epochs=20, batch=64)
            for k in DIMENSIONS
        ]
        for name, y in {"real labels": data.y_train, "random labels": random}.items()
    }
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.subplots()
    for (name, codes), colour in zip(found.items(), ("#0072B2", "#D55E00"), strict=True):
        bounds = [code.certificate().bound for code in codes]
        for k, code, bound in zip(DIMENSIONS, codes, bounds, strict=True):
            bits = 8 * len(code.code)
            print(f"{name}: dimension {k}, {bits} bits, risk {code.risk:.3f}, bound {bound:.3f}")
        axes.plot(DIMENSIONS, bounds, "o-", color=colour, label=f"bound, {name}")
        axes.plot(DIMENSIONS, [c.risk for c in codes], "o:", color=colour, label="training error")
    axes.axhline(0.9, color="#666666", ls="--", lw=1, label="guessing")
    axes.set(xscale="log", xlabel="dimension of the subspace", ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=8, ncols=2)
    figure.savefig("compression_bound.png", dpi=150)
    return found


if __name__ == "__main__":
    main()

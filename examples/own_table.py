"""A table of one's own with class labels: is the labelling noisier than it should be?

`bg.data.from_table` reads a DataFrame or a CSV, Parquet or .npz file; texts may be labels. The
noise variance of maximum evidence rises with the share of wrong labels, without clean labels to
compare with.

    python examples/own_table.py
"""

import gpytorch
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_wine

import bayesgen as bg

LEVELS = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


def main() -> dict[str, list[float]]:
    wine = load_wine(as_frame=True)
    table = wine.frame.assign(cultivar=wine.target_names[wine.target]).drop(columns="target")
    data = bg.data.from_table(table, "cultivar", test=0.3, seed=0)
    print(f"{len(data.y_train)} rows to train on, classes {', '.join(data.classes)}")
    y = [bg.corrupt_labels(data.y_train, level, num_classes=3, seed=1)[0] for level in LEVELS]
    targets = bg.likelihoods.one_hot(torch.stack(y), 3)
    posterior = bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit(data.x_train, targets)
    wrong = posterior.mean(data.x_test).argmax(-1) != data.y_test
    result = {
        "evidence": posterior.evidence.per_observation.tolist(),
        "noise": posterior.noise.reshape(-1).tolist(),
        "test error": wrong.double().mean(-1).tolist(),
    }
    for row in zip(LEVELS, *result.values(), strict=True):
        print("{:.0%} redrawn: {:6.3f} nats a row, noise {:.4f}, test error {:.3f}".format(*row))

    figure = Figure(figsize=(9.0, 3.0), layout="constrained")
    panels = figure.subplots(1, 3)
    colours = ("#0072B2", "#E69F00", "#D55E00")
    for axes, (name, values), colour in zip(panels, result.items(), colours, strict=True):
        axes.plot(LEVELS, values, "o-", color=colour)
        axes.set(title=name, xlabel="share of labels redrawn")
    figure.savefig("own_table.png", dpi=150)
    return result


if __name__ == "__main__":
    main()

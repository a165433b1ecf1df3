"""Laplace's evidence away from a mode is the evidence of nothing.

Laplace's approximation expands the log posterior about its maximum. The number for a network that
was stopped early follows the training, and not the model. A warning says so, and gives what a
Newton step would gain. `bg.fit_map` moves the network to a mode.

    python examples/off_the_mode.py
"""

import warnings

import torch
from matplotlib.figure import Figure

import bayesgen as bg

EPOCHS = (3, 10, 30, 100, 300)


def main() -> dict[str, list[float]]:
    data = bg.data.load("digits", train=200)
    x, y = data.x_train, data.y_train
    model = {"prior_precision": 1.0, "hyperparameters": "fixed", "curvature": "ggn"}
    found: dict[str, list[float]] = {"as trained": [], "moved to a mode": [], "gain": []}
    for epochs in EPOCHS:
        torch.manual_seed(0)
        net = bg.networks.MLP(64, (8,), 10).double()
        how = {"optimiser": "adam", "learning_rate": 0.02, "prior_precision": 1.0}
        bg.train(net, x, y, epochs=epochs, **how)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", bg.NotAtModeWarning)
            before = bg.Laplace(net, **model).fit(x, y)
        bg.fit_map(net, x, y, prior_precision=1.0)
        after = bg.Laplace(net, **model).fit(x, y)
        found["as trained"].append(float(before.evidence.per_observation))
        found["moved to a mode"].append(float(after.evidence.per_observation))
        found["gain"].append(float(before.gain) / len(y))
        print(f"{epochs:3} epochs: " + ", ".join(f"{k} {v[-1]:.3f}" for k, v in found.items()))

    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.semilogx(EPOCHS, found["as trained"], "o-", color="#D55E00", label="as trained")
    axes.semilogx(EPOCHS, found["moved to a mode"], "o-", color="#0072B2", label="moved to a mode")
    axes.set(xlabel="epochs of training", ylabel="log p(D) / n, nats")
    axes.legend(frameon=False)
    figure.savefig("off_the_mode.png", dpi=150)
    return found


if __name__ == "__main__":
    main()

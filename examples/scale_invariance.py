"""The evidence of a network depends on the scale of weights in front of a BatchNorm.

The first convolution of a trained network is multiplied by 10, and the running moments of its
BatchNorm by 10 and 100. The function stays the same, up to BatchNorm's own small ε. Laplace's
evidence with one prior precision changes. With one precision for each layer it stays.

    python examples/scale_invariance.py
"""

import warnings

import torch
from matplotlib.figure import Figure
from torch import nn

import bayesgen as bg


def evidence(net: nn.Module, x: torch.Tensor, y: torch.Tensor, precision: float | str) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bg.NotAtModeWarning)
        posterior = bg.Laplace(net, prior_precision=precision, curvature="kron").fit(x, y)
    return float(posterior.evidence.per_observation)


def main() -> dict:
    data = bg.data.load("digits", train=300, test=100)
    x, y = data.x_train.reshape(-1, 1, 8, 8), data.y_train
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    ).double()
    bg.train(net, x, y, epochs=20, batch=50, learning_rate=0.05, prior_precision=0.5)
    before = net(x).detach()
    values = {p: [evidence(net, x, y, p)] for p in (1.0, "layer")}
    with torch.no_grad():
        net[0].weight.mul_(10)
        net[1].running_mean.mul_(10)
        net[1].running_var.mul_(100)
    change = (net(x).detach() - before).abs().max() / before.abs().max()
    print(f"largest change of an output: {float(change):.1e} of the largest")
    for precision, found in values.items():
        found.append(evidence(net, x, y, precision))
        name = "one precision" if precision == 1.0 else "one precision a layer"
        print(f"{name}: {found[0]:.3f} nats an image before, {found[1]:.3f} after")
    figure = Figure(figsize=(6.4, 2.8), layout="constrained")
    axes = figure.subplots()
    for (precision, found), colour in zip(values.items(), ("#D55E00", "#0072B2"), strict=True):
        name = "one precision" if precision == 1.0 else "one precision for each layer"
        axes.plot(["as trained", "rescaled"], found, "o-", color=colour, label=name)
    axes.set(ylabel="log p(D) / n, nats", title="one function, two sets of weights")
    axes.legend(frameon=False)
    figure.savefig("scale_invariance.png", dpi=150)
    return values


if __name__ == "__main__":
    main()

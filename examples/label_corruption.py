"""The evidence falls as labels are redrawn, while every label is fitted.

A Gaussian process with little noise interpolates the labels of 300 digits, for any share of labels
redrawn at random. Its training error is zero throughout, and tells nothing. Its evidence tells the
noisy labels from the clean ones without test data.

    python examples/label_corruption.py
"""

import gpytorch
import torch
from matplotlib.figure import Figure

import bayesgen as bg

LEVELS = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]


def main() -> dict[str, list[float]]:
    data = bg.data.load("digits", train=300, test=300)
    labels = [bg.corrupt_labels(data.y_train, p, num_classes=10, seed=0)[0] for p in LEVELS]
    y = torch.stack(labels)  # six tasks on the same inputs share one search
    kernel = gpytorch.kernels.RBFKernel()
    model = bg.GaussianProcess(kernel, noise=1e-4, hyperparameters=("kernel", "scale"))
    posterior = model.fit(data.x_train, bg.likelihoods.one_hot(y, 10))

    train = posterior.mean(data.x_train).argmax(-1) != y
    test = posterior.mean(data.x_test).argmax(-1) != data.y_test
    result = {
        "evidence": posterior.evidence.per_observation.tolist(),
        "training error": train.double().mean(-1).tolist(),
        "test error": test.double().mean(-1).tolist(),
    }
    for row in zip(LEVELS, *result.values(), strict=True):
        print(
            "{:.0%} redrawn: {:7.2f} nats a label, training error {:.2f}, test {:.2f}".format(*row)
        )

    figure = Figure(figsize=(8.0, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(LEVELS, result["evidence"], "o-", color="#0072B2")
    left.set(xlabel="share of labels redrawn", ylabel="log p(D) / n, nats", title="evidence")
    right.plot(LEVELS, result["training error"], "o-", color="#666666", label="training")
    right.plot(LEVELS, result["test error"], "o-", color="#D55E00", label="test")
    right.set(xlabel="share of labels redrawn", title="error")
    right.legend(frameon=False)
    figure.savefig("label_corruption.png", dpi=150)
    return result


if __name__ == "__main__":
    main()

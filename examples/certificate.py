"""A PAC-Bayes certificate: an upper bound of the error on new data, without test data.

The complexity in the bound is that of the evidence. The bound holds with probability 0.95 over the
draw of the sample. It becomes vacuous (not below guessing) as labels are redrawn at random.

    python examples/certificate.py
"""

import gpytorch
from matplotlib.figure import Figure

import bayesgen as bg

LEVELS = [0.0, 0.25, 0.5, 0.75, 1.0]


def main() -> list[bg.pacbayes.Certificate]:
    groups = (range(0, 10, 2), range(1, 10, 2))  # even against odd digits
    data = bg.data.merge(bg.data.load("digits", train=800, test=300), groups)
    kernel = gpytorch.kernels.RBFKernel()
    kernel.lengthscale = 2.0  # stated before the data, and not learnt
    model = bg.GaussianProcess(kernel, hyperparameters=("scale", "noise"))
    certificates, errors = [], []
    for level in LEVELS:
        labels, _ = bg.corrupt_labels(data.y_train, level, num_classes=2, seed=0)
        noisy_test, _ = bg.corrupt_labels(data.y_test, level, num_classes=2, seed=1)
        posterior = model.fit(data.x_train, 2 * labels.double() - 1)
        certificates.append(posterior.certificate(delta=0.05))
        wrong = (posterior.mean(data.x_test) > 0).long() != noisy_test
        errors.append(float(wrong.double().mean()))
        print(
            f"{level:.0%} redrawn: bound {certificates[-1].bound:.3f}, "
            f"complexity {certificates[-1].complexity:.0f} nats, test error {errors[-1]:.3f}"
        )
    print()
    print(certificates[0])

    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(LEVELS, [c.bound for c in certificates], "o-", color="#0072B2", label="certificate")
    axes.plot(LEVELS, errors, "o-", color="#D55E00", label="error on as noisy test labels")
    axes.axhline(0.5, color="#666666", ls="--", lw=1, label="guessing")
    axes.set(xlabel="share of labels redrawn", ylabel="error", ylim=(0, None))
    axes.legend(frameon=False)
    figure.savefig("certificate.png", dpi=150)
    return certificates


if __name__ == "__main__":
    main()

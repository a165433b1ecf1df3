"""Laplace's evidence of a torch network, with four curvatures at one mode.

The curvature is the matrix of second derivatives of the loss in the weights, or an approximation of
it. A cruder curvature finds more effective parameters and states less evidence. That of the last
layer is not comparable: its complexity excludes the features.

    python examples/laplace_of_a_network.py
"""

import torch
from matplotlib.figure import Figure
from torch import nn

import bayesgen as bg

CURVATURES = ("ggn", "kron", "diag", "last_layer")


def main() -> dict[str, bg.NetworkPosterior]:
    torch.manual_seed(0)
    data = bg.data.load("digits", train=200, test=300)
    x, y = data.x_train, data.y_train
    net = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10)).double()
    bg.train(net, x, y, epochs=100, optimiser="adam", prior_precision=1.0)
    bg.fit_map(net, x, y, prior_precision=1.0)  # the approximation is about a mode
    found = {}
    for curvature in CURVATURES:
        model = bg.Laplace(net, prior_precision=1.0, curvature=curvature, hyperparameters="fixed")
        found[curvature] = model.fit(x, y)
        predicted = found[curvature].predict(data.x_test)
        error = (predicted.probs.argmax(-1) != data.y_test).double().mean()
        evidence = found[curvature].evidence
        print(
            f"{curvature:10}  {float(evidence.per_observation):6.3f} nats a digit  "
            f"N_eff {float(evidence.effective_dimension):6.1f}  test error {float(error):.3f}  "
            f"excludes {', '.join(evidence.complexity_excludes) or 'nothing'}"
        )
    figure = Figure(figsize=(8.0, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    evidences = [p.evidence for p in found.values()]
    left.bar(CURVATURES, [float(e.per_observation) for e in evidences], color="#0072B2")
    left.set(title="log p(D) / n, nats (excludes features: last_layer)")
    right.bar(CURVATURES, [float(e.effective_dimension) for e in evidences], color="#E69F00")
    right.set(title=f"effective parameters, of {sum(p.numel() for p in net.parameters()):,}")
    figure.savefig("laplace_of_a_network.png", dpi=150)
    return found


if __name__ == "__main__":
    main()

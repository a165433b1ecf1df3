"""Fit, complexity and evidence of polynomials under two priors.

The evidence is fit − complexity. Under an isotropic prior each further degree costs complexity, and
the evidence falls beyond the best degree. Under an order-dependent prior, whose variances decrease
with the degree, further degrees cost almost nothing.

    python examples/evidence_of_polynomials.py
"""

import torch
from matplotlib.figure import Figure

import bayesgen as bg

DEGREES = range(1, 41)


def main() -> dict[str, list[bg.Evidence]]:
    generator = torch.Generator().manual_seed(0)
    x = torch.linspace(-1, 1, 50, dtype=torch.float64)
    noise = 0.1 * torch.randn(50, generator=generator, dtype=torch.float64)
    y = x + torch.cos(torch.pi * x) + noise
    learnt = ("scale", "noise")
    priors = {"isotropic": bg.priors.isotropic(), "order-dependent": bg.priors.geometric(2.0)}
    found = {
        name: [
            bg.Polynomial(d, prior, kind="legendre", hyperparameters=learnt).fit(x, y).evidence
            for d in DEGREES
        ]
        for name, prior in priors.items()
    }
    figure = Figure(figsize=(8.0, 3.4), layout="constrained")
    for axes, (name, evidences) in zip(
        figure.subplots(1, 2, sharey=True), found.items(), strict=True
    ):
        axes.plot(DEGREES, [float(e.fit) for e in evidences], color="#009E73", label="fit")
        axes.plot(
            DEGREES, [float(e.complexity) for e in evidences], color="#E69F00", label="complexity"
        )
        total = [float(e.log_marginal_likelihood) for e in evidences]
        axes.plot(DEGREES, total, color="#0072B2", lw=2.5, label="log p(D) = fit − complexity")
        best = max(range(len(total)), key=total.__getitem__)
        axes.plot(DEGREES[best], total[best], "o", color="#0072B2")
        axes.set(title=f"{name} prior", xlabel="degree", ylim=(-20, 70))
        axes.grid(alpha=0.25)
        print(f"{name}: degree {DEGREES[best]} has {total[best]:.1f} nats, 40 has {total[-1]:.1f}")
    figure.axes[0].set_ylabel("nats")
    figure.axes[0].legend(frameon=False, fontsize=9)
    figure.savefig("evidence_of_polynomials.png", dpi=150)
    return found


if __name__ == "__main__":
    main()

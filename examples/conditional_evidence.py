"""A vague prior makes the evidence reject the better predictor; conditional evidence does not.

The quintic has the right form, and prior standard deviations that are 10⁵ times too large. Its
evidence pays for each weight that the data determine. The conditional evidence given the first ten
points leaves that payment out, and ranks as new data do (Lotfi et al. 2022).

    python examples/conditional_evidence.py
"""

import pandas as pd
import torch
from matplotlib.figure import Figure

import bayesgen as bg


def data(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = 2 * torch.rand(n, generator=generator, dtype=torch.float64) - 1
    noise = 0.3 * torch.randn(n, generator=generator, dtype=torch.float64)
    return x, torch.sin(4 * x) + noise


def main() -> pd.DataFrame:
    x, y = data(40, seed=0)
    x_new, y_new = data(2000, seed=1)
    models = {
        "line": bg.Polynomial(1, 1.0),
        "cubic": bg.Polynomial(3, 10.0),
        "quintic, vague prior": bg.Polynomial(5, 1e10),
    }
    rows = {}
    for name, model in models.items():
        posterior = model.fit(x, y, hyperparameters=("noise",))
        later = posterior.conditional_evidence(10, orderings=50)
        rows[name] = {
            "log evidence": float(posterior.evidence.log_marginal_likelihood),
            "conditional, m = 10": float(later.log_marginal_likelihood),
            "± s.e.": float(later.error),
            "test log density": float(posterior.predict(x_new).log_prob(y_new).mean()),
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    print(table.round(3).to_string())
    print(f"evidence picks the {table['log evidence'].idxmax()}")
    print(f"conditional evidence picks the {table['conditional, m = 10'].idxmax()}")
    print(f"new data prefer the {table['test log density'].idxmax()}")
    figure = Figure(figsize=(9.0, 2.4), layout="constrained")
    columns = ["log evidence", "conditional, m = 10", "test log density"]
    for axes, column in zip(figure.subplots(1, 3, sharey=True), columns, strict=True):
        best = table[column].idxmax()
        colours = ["#0072B2" if name == best else "#999999" for name in table.index]
        axes.barh(table.index, table[column] - table[column].min(), color=colours)
        axes.set(title=column, xlabel="nats above the lowest")
    figure.savefig("conditional_evidence.png", dpi=150)
    return table


if __name__ == "__main__":
    main()

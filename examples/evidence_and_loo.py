"""Evidence and leave-one-out (LOO) answer different questions, and may disagree.

The evidence measures how well the prior predicts all of the data. LOO measures how well all points
but one predict that one. A prior that is much too wide costs ½ ln(its variance) of evidence for
each weight that the data determine. LOO hardly changes, because n − 1 points outweigh the prior.

    python examples/evidence_and_loo.py
"""

import warnings

import pandas as pd
import torch
from matplotlib.figure import Figure

import bayesgen as bg

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # arviz 0.23 announces its successor
    import arviz as az


def main() -> pd.DataFrame:
    generator = torch.Generator().manual_seed(0)
    x = torch.linspace(-1, 1, 40, dtype=torch.float64)
    y = torch.sin(4 * x) + 0.3 * torch.randn(40, generator=generator, dtype=torch.float64)
    models = {
        "line": bg.Polynomial(1, 1.0),
        "quintic": bg.Polynomial(5, 10.0),
        "quintic, vague prior": bg.Polynomial(5, 1e8),
        "degree 12, order-dependent": bg.Polynomial(12, bg.priors.geometric(2.0, scale=10.0)),
    }
    posteriors = {
        name: model.fit(x, y, hyperparameters=("noise",)) for name, model in models.items()
    }
    table = bg.compare(posteriors)[["log_evidence", "delta", "probability"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # arviz's own deprecations
        exported = {name: p.to_arviz(draws=4000) for name, p in posteriors.items()}
        loo = {name: az.loo(data) for name, data in exported.items()}
    # ArviZ 0.x calls it elpd_loo, 1.x elpd.
    elpd = {k: float(getattr(v, "elpd_loo", getattr(v, "elpd", None))) for k, v in loo.items()}
    table = table.assign(elpd_loo=pd.Series(elpd))
    print(table.round(3).to_string())
    print(f"evidence ranks first: {table.log_evidence.idxmax()}")
    print(f"LOO ranks first: {table.elpd_loo.idxmax()}")
    gap = table.loc["quintic"] - table.loc["quintic, vague prior"]
    print(
        f"a vague prior costs the quintic {gap.log_evidence:.1f} nats of evidence and "
        f"{gap.elpd_loo:.1f} of LOO"
    )
    figure = Figure(figsize=(8.0, 2.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, column in zip(panels, ("log_evidence", "elpd_loo"), strict=True):
        axes.barh(table.index, table[column], color="#0072B2")
        axes.set(title=f"{column}, nats", xlim=(table[column].dropna().min() * 1.1, None))
    figure.savefig("evidence_and_loo.png", dpi=150)
    return table


if __name__ == "__main__":
    main()

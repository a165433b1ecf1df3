"""Evidence beside leave-one-out: they answer different questions, and may disagree.

The evidence asks how well the prior predicted the data, all of them from nothing; LOO asks how
well all but one predict the one. A prior far too wide costs the evidence ½ ln(its variance) for
every weight it turned out to need; LOO hardly sees it, since n − 1 points drown any prior.

    python examples/evidence_and_loo.py
"""

import warnings

import pandas as pd
import torch

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
    return table


if __name__ == "__main__":
    main()

"""Rank models on a table of numbers by their evidence.

Polynomials, Fourier series and Gaussian processes are fitted to 150 patients of scikit-learn's
diabetes data. The ranking holds a null model that ignores the inputs, and needs no test data.

    python examples/select_on_a_table.py
"""

import pandas as pd
from sklearn.datasets import load_diabetes

import bayesgen as bg


def main() -> pd.DataFrame:
    frame = load_diabetes(as_frame=True, scaled=False).frame[:150]
    table = bg.select.from_frame(frame[["bmi", "bp", "s5", "target"]], "target")
    selection = bg.select.select(table)
    ranking = selection.ranking
    print(ranking[["log_evidence", "fit", "complexity", "probability"]].round(2).to_string())
    best = ranking.index[0]
    print(f"best: {best}, {-ranking.delta['null']:.1f} nats above the null model")
    bg.plots.comparison(ranking).savefig("select_on_a_table.png", dpi=150)
    return ranking


if __name__ == "__main__":
    main()

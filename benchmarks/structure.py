"""Structures that `bayesgen.select.kernels` finds for series, and how well they predict.

usage: OMP_NUM_THREADS=1 python benchmarks/structure.py [--store DIR] [--only NAME] [--quick]

pip install statsmodels

Of each series, the last 20 % are held out (extrapolation), and a random 10 % of the rest
(interpolation). The models are the structure that the search finds on the other points, the best
single kernel of its base, and for CO₂ the kernel of Rasmussen & Williams (2006), section 5.4.3, as
in the documentation of scikit-learn, fitted by its GaussianProcessRegressor from the values there.
All have the same training points. Inputs and targets are scaled by the mean and standard deviation
of the training points, and densities are in nats a point in the units of the targets.

--store keeps each fit and each finished series, and the command continues there. --quick has 96
points of each series and two steps, to try the command.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _report import RESULTS
from sklearn.gaussian_process import GaussianProcessRegressor, kernels as sk
from torch.distributions import Normal

import bayesgen as bg
from bayesgen.models.gp.posterior import GPPosterior

Data = tuple[np.ndarray, np.ndarray]
BASE = ("linear", "periodic", "rbf")


# Series.


def _statsmodels(name: str) -> pd.DataFrame:
    try:
        from statsmodels import datasets
    except ImportError:
        raise SystemExit("structure.py needs statsmodels for its data") from None
    found: pd.DataFrame = getattr(datasets, name).load_pandas().data
    return found


def co2() -> Data:
    """Monthly means of CO₂ at Mauna Loa in ppm, 1958 to 2001; inputs in years."""
    monthly = _statsmodels("co2")["co2"].resample("MS").mean().dropna()
    when = pd.DatetimeIndex(monthly.index)
    return np.asarray(when.year + (when.month - 0.5) / 12, float), monthly.to_numpy(float)


def airline_like() -> Data:
    """A synthetic series: a log-linear trend times a season, so that the amplitude grows.

    Twelve years of months from 100, 12 % growth a year, a season of 20 % with a second harmonic of
    8 %, and independent noise of 3 %, all relative to the level.
    """
    t = np.arange(144) / 12
    season = 0.2 * np.sin(2 * np.pi * t) + 0.08 * np.cos(4 * np.pi * t)
    noise = 0.03 * np.random.default_rng(0).standard_normal(144)
    return 1949 + t, 100 * np.exp(0.12 * t) * (1 + season + noise)


def sunspots() -> Data:
    """Yearly sunspot numbers, 1700 to 2008."""
    table = _statsmodels("sunspots")
    return table["YEAR"].to_numpy(float), table["SUNACTIVITY"].to_numpy(float)


def nile() -> Data:
    """Yearly flow of the Nile, 1871 to 1970, in 10⁸ m³."""
    table = _statsmodels("nile")
    return table["year"].to_numpy(float), table["volume"].to_numpy(float)


def elnino() -> Data:
    """Monthly sea surface temperatures in the El Niño region, 1980 to 2010, in °C."""
    table = _statsmodels("elnino").set_index("YEAR")
    table = table[table.index >= 1980]
    years = np.asarray(table.index, float)[:, None] + (np.arange(12) + 0.5) / 12
    return years.reshape(-1), table.to_numpy(float).reshape(-1)


def noise() -> Data:
    """Independent standard normal numbers."""
    return np.arange(200.0), np.random.default_rng(1).standard_normal(200)


def _terms(text: str) -> list[set[str]]:
    return [set(term.strip().split("*")) for term in text.split("+")]


def trend_and_season(text: str) -> bool:
    """Whether a structure has a term with a period and one without."""
    periodic = ["periodic" in term for term in _terms(text)]
    return any(periodic) and not all(periodic)


def growing_season(text: str) -> bool:
    """Whether a structure has a trend, and a period whose amplitude changes."""
    changes = any("periodic" in t and t & {"linear", "rbf"} for t in _terms(text))
    return trend_and_season(text) and changes


@dataclass(frozen=True)
class Series:
    """A series and what is expected of its structure.

    Attributes:
        data: function that returns inputs and targets, (n,) each.
        claim: what the structure must have, in words, and the function that says if it has.
    """

    data: Callable[[], Data]
    claim: tuple[str, Callable[[str], bool]] | None = None


SERIES = {
    "co2": Series(co2, ("trend and season", trend_and_season)),
    "airline-like (synthetic)": Series(
        airline_like, ("trend and season of changing amplitude", growing_season)
    ),
    "sunspots": Series(sunspots),
    "nile": Series(nile),
    "elnino": Series(elnino),
    "white noise": Series(noise, ("white noise", lambda text: text == "white noise")),
}


# Models.


@dataclass(frozen=True)
class Split:
    """Training points and the two sets of points that are held out.

    Attributes:
        x, y: the series, (n,) each.
        train, inside, beyond: indices.
    """

    x: np.ndarray
    y: np.ndarray
    train: np.ndarray
    inside: np.ndarray
    beyond: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray) -> Split:
        """The split of a series that is sorted by its inputs."""
        n, random = len(x), np.random.default_rng(0)
        first = n - n // 5
        inside = np.sort(random.permutation(first)[: first // 10])
        return cls(x, y, np.setdiff1d(np.arange(first), inside), inside, np.arange(first, n))

    def scaled(self, values: np.ndarray) -> torch.Tensor:
        """A column scaled by the mean and standard deviation of its training points."""
        own = values[self.train]
        return torch.tensor((values - own.mean()) / own.std())


@dataclass(frozen=True)
class Result:
    """One model of one series.

    Attributes:
        structure: what the model is.
        log_evidence: log p(y) of the scaled training targets in nats.
        score: with the penalty of the search; None for scikit-learn.
        inside, beyond: mean log predictive density in nats a point, interpolation and
            extrapolation.
        gain, gain_error: interpolation density less that of the best single kernel, mean and
            standard error over the points.
        rmse_inside, rmse_beyond: root mean square errors, in the units of the targets.
        seconds: CPU seconds of the search or fit; None where a part of it was stored.
    """

    structure: str
    log_evidence: float
    score: float | None
    inside: float
    beyond: float
    rmse_inside: float
    rmse_beyond: float
    gain: float
    gain_error: float
    seconds: float | None


@dataclass(frozen=True)
class Row:
    """The models of one series by name."""

    series: str
    n: int
    tried: int
    fulfilled: bool | None
    models: dict[str, Result] = field(default_factory=dict)


Predict = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def densities(split: Split, predict: Predict, rows: np.ndarray) -> tuple[torch.Tensor, float]:
    """Log predictive density of each row, (m,), and the root mean square error."""
    mean, sd = (torch.as_tensor(v) for v in predict(rows))
    y = torch.tensor(split.y[rows])
    return Normal(mean, sd).log_prob(y), float((mean - y).square().mean().sqrt())


def judged(split: Split, predict: Predict, single: Predict) -> dict[str, float]:
    """Held-out densities and errors of a model, both in the units of the targets."""
    inside, rmse_inside = densities(split, predict, split.inside)
    beyond, rmse_beyond = densities(split, predict, split.beyond)
    more = inside - densities(split, single, split.inside)[0]
    return {
        "inside": float(inside.mean()),
        "beyond": float(beyond.mean()),
        "rmse_inside": rmse_inside,
        "rmse_beyond": rmse_beyond,
        "gain": float(more.mean()),
        "gain_error": float(more.std() / math.sqrt(len(more))),
    }


def predictor(split: Split, posterior: GPPosterior) -> Predict:
    """Means and standard deviations of targets of a search's posterior, in their units."""
    own, x = split.y[split.train], split.scaled(split.x)

    def predict(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = posterior.predict(x[rows])
        return own.mean() + own.std() * found.mean.numpy(), own.std() * found.stddev.numpy()

    return predict


def textbook(split: Split, single: Predict) -> Result:
    """scikit-learn's kernel of the CO₂ series, fitted from its values."""
    kernel = (
        50.0**2 * sk.RBF(50.0)
        + 2.0**2 * sk.RBF(100.0) * sk.ExpSineSquared(1.0, 1.0, periodicity_bounds="fixed")
        + 0.5**2 * sk.RationalQuadratic(1.0, 1.0)
        + 0.1**2 * sk.RBF(0.1)
        + sk.WhiteKernel(0.1**2, (1e-5, 1e5))
    )
    x, y = split.x[split.train, None], split.y[split.train]
    model = GaussianProcessRegressor(kernel, normalize_y=False)
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parameters near their bounds
        model.fit(x, y - y.mean())
    seconds = time.process_time() - start

    def predict(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # The white kernel is a part of the prior variance, so that this is the sd of a target.
        mean, sd = model.predict(split.x[rows, None], return_std=True)
        return y.mean() + mean, sd

    value = float(model.log_marginal_likelihood_value_) + len(y) * math.log(y.std())
    text = "rbf + periodic*rbf + rq + rbf, period 1 year"
    return Result(text, value, None, **judged(split, predict, single), seconds=seconds)


def measured(name: str, store: Path | None, quick: bool, depth: int) -> Row:
    """Search one series, or read its results from the store."""
    series = SERIES[name]
    x, y = series.data()
    if quick:
        x, y, depth = x[-96:], y[-96:], 2
    mark = f"{''.join(c for c in name if c.isalnum())}-n{len(x)}-depth{depth}"
    kept = None if store is None else store / f"{mark}.json"
    if kept is not None and kept.is_file():
        entry = json.loads(kept.read_text())
        models = {k: Result(**v) for k, v in entry.pop("models").items()}
        return Row(**entry, models=models)
    split = Split.of(x, y)
    folder = None if store is None else store / mark
    fresh = folder is None or not folder.exists()
    tx, ty = split.scaled(x)[split.train], split.scaled(y)[split.train]

    def told(done: int, expected: int, what: str) -> None:
        print(f"{name}: {done} of {expected}, {what}", flush=True)

    start = time.process_time()
    found = bg.select.kernels(tx, ty, base=BASE, depth=depth, store=folder, progress=told)
    seconds = time.process_time() - start if fresh else None
    ranking = found.ranking
    best = str(ranking.index[0])
    single = str(ranking.index[ranking.index.isin(BASE)][0])
    least = predictor(split, found.posteriors[single])
    models = {}
    for label, text, took in (("found", best, seconds), ("best single", single, None)):
        scores = judged(split, predictor(split, found.posteriors[text]), least)
        value, score = (float(ranking[c][text]) for c in ("log_evidence", "score"))
        models[label] = Result(text, value, score, **scores, seconds=took)
    if name == "co2" and not quick:
        models["scikit-learn"] = textbook(split, least)
    fulfilled = None if series.claim is None else series.claim[1](best)
    row = Row(name, len(tx), len(ranking), fulfilled, models)
    if kept is not None:
        kept.write_text(json.dumps(asdict(row)))
    return row


def report(rows: list[Row], command: str) -> str:
    """The tables as Markdown."""
    head = [
        "series", "n", "model", "structure", "log p(D)", "score", "interpolation, nats a point",
        "more than single ± s.e.",
        "extrapolation, nats a point", "interpolation, RMSE", "extrapolation, RMSE", "CPU s",
    ]  # fmt: skip
    lines = ["# Structures of series", "", f"`{command}`", "", f"| {' | '.join(head)} |"]
    lines.append("| --- | ---: | --- | --- |" + " ---: |" * 8)
    for row in rows:
        for model, r in row.models.items():
            cells = [
                row.series, str(row.n), model, r.structure, f"{r.log_evidence:.1f}",
                "—" if r.score is None else f"{r.score:.1f}",
                f"{r.inside:.3f}",
                "—" if model == "best single" else f"{r.gain:.3f} ± {r.gain_error:.3f}",
                f"{r.beyond:.3f}", f"{r.rmse_inside:.3g}",
                f"{r.rmse_beyond:.3g}", "—" if r.seconds is None else f"{r.seconds:.1f}",
            ]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| series | structures tried | the structure must have | it has |",
              "| --- | ---: | --- | --- |"]  # fmt: skip
    for row in rows:
        claim = SERIES[row.series].claim
        if claim is not None:
            has = "yes" if row.fulfilled else "no"
            lines.append(f"| {row.series} | {row.tried} | {claim[0]} | {has} |")
    versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("torch", "gpytorch", "scikit-learn")
    )
    lines += [
        "",
        "log p(D) and score are of the scaled training targets, in nats; n is their number. The "
        "mean log predictive density is of single held-out targets in their own units. The last "
        "20 % are the extrapolation, a random 10 % of the rest the interpolation. CPU seconds are "
        "those of the whole search, or of one fit of scikit-learn from stated values, on one "
        "thread; none are shown where a part was read from the store.",
        "",
        "A separate trend is a term without a period. gpytorch's periodic kernel has a positive "
        "mean over the phase, so that periodic*rbf alone is a trend and a season of changing "
        "amplitude with a fixed ratio; such a structure counts as no here.",
        "",
        f"Machine: {platform.machine()}, {torch.get_num_threads()} threads; {versions}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", type=Path, help="folder in which fits and results are kept")
    parser.add_argument("--only", choices=list(SERIES), help="one series, without saving the table")
    parser.add_argument("--depth", type=int, default=5, help="largest number of steps")
    parser.add_argument("--quick", action="store_true", help="a small size, without saving")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.store is not None:
        arguments.store.mkdir(parents=True, exist_ok=True)
    names = list(SERIES) if arguments.only is None else [arguments.only]
    rows = [measured(name, arguments.store, arguments.quick, arguments.depth) for name in names]
    text = report(rows, f"python benchmarks/structure.py --depth {arguments.depth}")
    print(text)
    if not arguments.quick and arguments.only is None:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "structure.md").write_text(text)
        content = json.dumps([asdict(row) for row in rows], indent=1)
        (RESULTS / "structure.json").write_text(content + "\n")


if __name__ == "__main__":
    main()

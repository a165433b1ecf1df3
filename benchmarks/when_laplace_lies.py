"""When Laplace lies: estimates of a small network's log p(D) beside its annealed interval.

python benchmarks/when_laplace_lies.py [--train N] [--width H] [--rungs T]

A tanh network on digits, at three levels of label corruption, with the same prior on its weights
for every estimate. Conjugate models, whose evidence is known, say how often the annealed interval
holds, and singular models, whose learning coefficient is known, check the sampler. Each number is
kept in benchmarks/results/when_laplace_lies.json as it ends, and a second call continues there.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import warnings
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from _report import RESULTS, timed, write
from torch import Tensor, nn

import bayesgen as bg

STORE = RESULTS / "when_laplace_lies.json"
PICTURE = RESULTS.parents[1] / "docs" / "figures" / "when_laplace_lies.png"
LEVELS, ALPHA, SEEDS = (0.0, 0.5, 1.0), 1.0, 20
LOSS = 0.1  # training loss, nats per observation, at which networks of all levels are expanded
# Settings of the chains with which R-hat is small for this network.
SAMPLING = {"chains": 24, "settle": 400, "leaps": 12}
# Name → log likelihood of n observations, its number of weights and its learning coefficient.
SINGULAR: dict[str, tuple[Callable[[Tensor, int], Tensor], int, float]] = {
    "w₁² + w₂², λ = 1": (lambda w, n: -n * (w[:, 0] ** 2 + w[:, 1] ** 2), 2, 1.0),
    "w₁² + w₂⁴, λ = 3/4": (lambda w, n: -n * (w[:, 0] ** 2 + w[:, 1] ** 4), 2, 0.75),
    "w₁⁴ + w₂⁶, λ = 5/12": (lambda w, n: -n * (w[:, 0] ** 4 + w[:, 1] ** 6), 2, 5 / 12),
}


def found(key: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A stored result, or a new one, which is stored."""
    known = json.loads(STORE.read_text()) if STORE.exists() else {}
    if key not in known:
        seconds, value = timed(compute)
        known[key] = value | {"seconds": round(seconds, 1)}
        STORE.write_text(json.dumps(known, indent=1) + "\n")
        print(key, known[key], flush=True)
    return dict(known[key])


def annealed(net: nn.Module, x: Tensor, y: Tensor, rungs: int) -> dict[str, Any]:
    run = bg.anneal(net, x, y, prior_precision=ALPHA, rungs=rungs, **SAMPLING)
    return {
        "value": run.log_evidence,
        "lower": run.interval.lower,
        "upper": run.interval.upper,
        "wbic": -run.wbic,
        "lambda": run.learning_coefficient,
        "fit": run.fit,
        "rhat": run.rhat,
        "ess": run.ess,
        "acceptance": run.acceptance,
    }


def laplace(net: nn.Module, x: Tensor, y: Tensor, **settings: Any) -> dict[str, Any]:
    model = bg.Laplace(net, prior_precision=ALPHA, hyperparameters="fixed", **settings)
    return {"value": float(model.fit(x, y).evidence.log_marginal_likelihood)}


def at_one_loss(mode: nn.Module, x: Tensor, y: Tensor) -> dict[str, Any]:
    """Laplace's evidence with the GGN where the training loss is the same at all levels."""
    net = copy.deepcopy(mode)
    bg.fit_map(net, x, y, prior_precision=0.0, height=-LOSS * len(x), steps=2000)
    fit = float(nn.functional.cross_entropy(net(x), y, reduction="sum"))
    if abs(fit / len(x) - LOSS) > 1e-3:
        raise RuntimeError(f"the loss is {fit / len(x):.4f} in place of {LOSS}")
    return laplace(net, x, y, curvature="ggn")


def code(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, Any]:
    length = bg.prequential(net, x, y, prior_precision=ALPHA)
    return {"value": length.log_evidence, "error": length.error}


def estimates(data: bg.data.Dataset, level: float, width: int, rungs: int) -> dict[str, Any]:
    """All estimates at one level of corruption."""
    x = data.x_train
    y, _ = bg.corrupt_labels(data.y_train, level, num_classes=10, seed=0)
    torch.manual_seed(0)
    net = bg.networks.MLP(64, (width,), 10, activation="tanh").double()
    mode = copy.deepcopy(net)
    fitted = bg.fit_map(mode, x, y, prior_precision=ALPHA, steps=2000)
    if not fitted.converged:
        raise RuntimeError(f"no mode was found at level {level}")
    key = f"n={len(x)}, H={width}, level={level:g}"
    # Permutations and signs of the hidden units give equivalent modes with the same evidence each.
    symmetries = math.lgamma(width + 1) + width * math.log(2)
    each = {"annealed": found(f"{key}, annealed, T={rungs}", lambda: annealed(net, x, y, rungs))}
    for name, settings in {
        "Laplace, GGN": {"curvature": "ggn"},
        "Laplace, Hessian": {"curvature": "hessian"},
        "Laplace, KFAC": {"curvature": "kron"},
        "Laplace, diagonal": {"curvature": "diag"},
        "tangent kernel at the mode": {"mode": "tangent"},
    }.items():
        each[name] = found(f"{key}, {name}", lambda s=settings: laplace(mode, x, y, **s))
    more = each["Laplace, GGN"]["value"] + symmetries
    each["Laplace, GGN, times 2ᴴH! modes"] = {"value": more}
    each["Laplace, GGN, at one loss"] = found(
        f"{key}, Laplace at loss {LOSS:g}", lambda: at_one_loss(mode, x, y)
    )
    each["tangent kernel at initial weights"] = found(
        f"{key}, tangent, initial", lambda: laplace(net, x, y, mode="tangent")
    )
    each["minus the prequential code length"] = found(
        f"{key}, prequential", lambda: code(net, x, y)
    )
    each["minus WBIC"] = {"value": each["annealed"]["wbic"]}
    return each


def conjugate() -> dict[str, Any]:
    """How many of 20 intervals hold the known evidence of a polynomial, and their mean width."""
    held, width, worst = 0, 0.0, 0.0
    x = torch.linspace(-1, 1, 30, dtype=torch.float64)
    for seed in range(SEEDS):
        generator = torch.Generator().manual_seed(seed)
        y = torch.sin(3 * x) + 0.2 * torch.randn(30, generator=generator, dtype=torch.float64)
        fitted = bg.Polynomial(4, noise=0.05, hyperparameters="fixed").fit(x, y)
        run = bg.anneal(fitted, rungs=100, settle=50, seed=seed)
        exact = float(fitted.evidence.log_marginal_likelihood)
        held += run.interval.contains(exact)
        width += (run.interval.upper - run.interval.lower) / SEEDS
        worst = max(worst, abs(run.log_evidence - exact))
    return {"held": held, "width": width, "worst": worst}


def singular(name: str) -> dict[str, Any]:
    function, dimension, exact = SINGULAR[name]
    n = 100_000
    run = bg.anneal(
        lambda w: function(w, n), dimension=dimension, n=n, maximum=0.0, chains=64, settle=400
    )
    return {
        "lambda": run.learning_coefficient,
        "error": run.learning_coefficient_error,
        "exact": exact,
    }


def table(every: dict[float, dict[str, Any]]) -> list[tuple[str, str]]:
    """Rows of the estimates: log p(D) at each level, and its distance from the interval."""
    rows = [("estimate", " · ".join(f"level {level:g}" for level in every))]
    for name in every[LEVELS[0]]:
        cells = []
        for each in every.values():
            truth, value = each["annealed"], each[name]["value"]
            if name == "annealed":
                cells.append(f"**{value:.1f}** in [{truth['lower']:.1f}, {truth['upper']:.1f}]")
            else:
                outside = max(truth["lower"] - value, value - truth["upper"], 0.0)
                sign = "−" if value < truth["lower"] else "+"
                cells.append(f"{value:.1f} ({sign}{outside:.1f})" if outside else f"{value:.1f}")
        rows.append((name, " · ".join(cells).replace("-", "−")))
    for name, words in {
        "rhat": "R-hat of the chains",
        "ess": "effective sample size",
        "acceptance": "acceptance",
        "lambda": "learning coefficient λ̂",
        "seconds": "seconds of annealing",
    }.items():
        values = [each["annealed"][name] for each in every.values()]
        spec = ".2f" if name in ("rhat", "acceptance") else ".0f" if name != "lambda" else ".1f"
        rows.append((words, " · ".join(format(value, spec) for value in values)))
    return rows


def draw(every: dict[float, dict[str, Any]], n: int, width: int) -> None:
    """Draw the figure of the independent estimates."""
    rows = [
        {
            "estimate": name,
            "level": level,
            "value": each[name]["value"],
            "lower": each[name].get("lower", math.nan),
            "upper": each[name].get("upper", math.nan),
        }
        for level, each in every.items()
        for name in each
        if name not in ("Laplace, Hessian", "Laplace, GGN, times 2ᴴH! modes")
    ]
    figure = bg.plots.evidence_estimates(
        pd.DataFrame(rows), n=n, classes=10, title=f"digits, n = {n}, tanh MLP 64–{width}–10, α = 1"
    )
    figure.savefig(PICTURE, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=200)
    parser.add_argument("--width", type=int, default=10)
    parser.add_argument("--rungs", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")  # what did not mix stands in the table
    RESULTS.mkdir(exist_ok=True)
    known = found("conjugate", conjugate)
    data = bg.data.load("digits", train=options.train, test=100)
    every = {level: estimates(data, level, options.width, options.rungs) for level in LEVELS}
    rows = table(every)
    rows.append(
        (
            f"conjugate polynomial, {SEEDS} data sets",
            f"{known['held']} of {SEEDS} intervals hold the exact evidence; mean width "
            f"{known['width']:.1f} nats, largest error of the estimate {known['worst']:.2f}",
        )
    )
    for name in SINGULAR:
        one = found(f"singular {name}", lambda name=name: singular(name))
        rows.append((f"K = {name}", f"λ̂ = {one['lambda']:.3f} ± {one['error']:.3f}"))
    draw(every, options.train, options.width)
    write(
        "when_laplace_lies",
        "When Laplace lies: log p(D) of a small network, in nats",
        "python benchmarks/when_laplace_lies.py",
        rows,
        f"digits, n = {options.train}, an MLP with {options.width} tanh units, prior precision "
        "α = 1 for every estimate, one corruption of the labels for each level. Annealing has "
        f"{SAMPLING['chains']} chains and {options.rungs} steps in β. In parentheses: "
        "the distance from the annealed interval (confidence 0.95), where an estimate is outside. "
        "The upper end of the interval presumes that the chains at β = 1 have the distribution of "
        "the posterior. Laplace's approximations are at one mode of the log posterior; at one loss "
        f"they are where the training loss is {LOSS:g} nats per observation at every level. The "
        "prequential code has 4 networks and the mean of 3 orders. Singular models have the log "
        "likelihood −nK with n = 100,000 and a standard normal prior.",
    )


if __name__ == "__main__":
    main()

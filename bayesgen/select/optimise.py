"""Bayesian optimisation of the evidence over settings without a gradient."""

from __future__ import annotations

import itertools
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.progress import track
from torch import Tensor

from bayesgen._internal import checks
from bayesgen.errors import NotConvergedError
from bayesgen.evidence import Evidence
from bayesgen.models import Posterior
from bayesgen.posterior.traced import chose

# Largest number of combinations of discrete values in one optimisation of the acquisition function.
_COMBINATIONS = 64


@dataclass(frozen=True)
class Axis:
    """One setting to choose: a number in [low, high], or one of several values.

    Attributes:
        name: keyword argument of `build`.
        values: the discrete values; None for a real number.
        low, high: range of a real number.
        log: whether a real number is searched in its logarithm.
        ordered: whether the values are numbers, so that neighbouring values are similar.
    """

    name: str
    values: tuple[Any, ...] | None
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    ordered: bool = False

    @property
    def width(self) -> int:
        """Number of coordinates of the setting in the unit cube."""
        return 1 if self.values is None or self.ordered else len(self.values)

    def encode(self, value: Any) -> list[float]:
        """Coordinates of a value in the unit cube; unordered values are coded one-hot."""
        if self.values is None:
            low, high, v = (math.log(t) if self.log else t for t in (self.low, self.high, value))
            return [(v - low) / (high - low)]
        index = self.values.index(value)
        if self.ordered:
            return [index / max(1, len(self.values) - 1)]
        return [float(i == index) for i in range(len(self.values))]

    def decode(self, coordinate: float) -> Any:
        """The value at a coordinate in [0, 1], which discrete values divide equally."""
        if self.values is not None:
            return self.values[min(int(coordinate * len(self.values)), len(self.values) - 1)]
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            return math.exp(low + coordinate * (high - low))
        return self.low + coordinate * (self.high - self.low)


@dataclass(frozen=True)
class Optimum:
    """Result of `optimise`: the best setting and all trials.

    Attributes:
        setting: keyword arguments of the best call of `build`.
        value: its log marginal likelihood, nats.
        trials: one row for each trial: the setting, `value` (NaN where it failed), `seconds`,
            `error`.
    """

    setting: dict[str, Any]
    value: float
    trials: pd.DataFrame


def optimise(
    build: Callable[..., Posterior | Evidence],
    space: Mapping[str, Any],
    *,
    trials: int = 20,
    initial: int = 5,
    log: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Optimum:
    """Maximise the evidence of `build(**setting)` over a mixed space by Bayesian optimisation.

    The numbers of the best setting count as learnt from the data where `build` returns posteriors;
    see `bayesgen.provenance`.

    The first trials are quasi-random (Sobol). Each further trial maximises `LogExpectedImprovement`
    under a Gaussian process on the values (`botorch.models.SingleTaskGP`). A trial that raises
    ValueError or NotConvergedError is logged and skipped.

    Args:
        build: fits a model and returns its posterior, or its `Evidence`, of one task.
        space: name → range or values. (low, high) of integers: every integer between them; of
            floats: the reals between them; (low, high, "log"): the same, searched in the logarithm;
            a list: one of its values.
        trials: total number of trials, including those in the log.
        initial: number of quasi-random trials among them.
        log: file of JSON lines, one written after each trial. If it exists, the run continues from
            it; an incomplete last line is dropped.
        seed: seed of the quasi-random trials and of the restarts of the acquisition function.
        progress: whether to show a progress bar on stderr.

    Raises:
        TypeError: `build` returns neither a posterior nor an Evidence.
        ValueError: the space is invalid; the log is of another space; no trial succeeded.

    Source: Jones et al. (1998); Ament et al. (2023) for the logarithm; BoTorch.

    Example:
        >>> import bayesgen as bg
        >>> x = torch.linspace(-1, 1, 30, dtype=torch.float64)
        >>> build = lambda degree: bg.Polynomial(degree).fit(x, x**3)
        >>> optimise(build, {"degree": (1, 4)}, trials=4, progress=False).setting
        {'degree': 3}
    """
    if not callable(build):
        raise TypeError(f"build must be a function of the space's names, got {build!r}")
    trials, initial = checks.whole("trials", trials), checks.whole("initial", initial)
    seed, progress = checks.seed(seed), checks.flag("progress", progress)
    if not isinstance(space, Mapping):
        raise TypeError(f"space must be a mapping of names to ranges or values, got {space!r}")
    axes = [_axis(name, value) for name, value in space.items()]
    if not axes:
        raise ValueError("space must name at least one hyperparameter, got none")
    file = None if log is None else Path(log)
    rows = [] if file is None else _resume(file, axes)
    sobol = torch.quasirandom.SobolEngine(len(axes), scramble=True, seed=seed)
    design = sobol.draw(max(initial, 1), dtype=torch.float64).tolist()
    remaining = range(len(rows), trials)
    last: Posterior | None = None

    def fitted(**setting: Any) -> Any:
        nonlocal last
        result = build(**setting)
        last = result if isinstance(result, Posterior) else last
        return result

    for i in track(remaining, "optimising the evidence", disable=not progress, transient=True):
        tried = [row["setting"] for row in rows]
        if i < len(design):
            drawn = {a.name: a.decode(u) for a, u in zip(axes, design[i], strict=True)}
            setting = _propose(axes, rows, seed + i) if drawn in tried else drawn
        else:
            setting = _propose(axes, rows, seed + i)
        if setting is None:  # every combination has been tried
            break
        rows.append(_trial(fitted, setting))
        if file is not None:
            with file.open("a") as handle:
                handle.write(json.dumps(rows[-1]) + "\n")
    good = [row for row in rows if row["value"] is not None]
    if not good:
        raise ValueError(f"no trial of {len(rows)} succeeded; the last said: {rows[-1]['error']}")
    best = max(good, key=lambda row: row["value"])
    if last is not None:
        chose(last, best["setting"].values(), "bayesgen.select.optimise")
    frame = pd.DataFrame([{**r["setting"], **_rest(r)} for r in rows])
    return Optimum(best["setting"], best["value"], frame)


def _axis(name: str, value: Any) -> Axis:
    wrong = ValueError(
        f"space[{name!r}] must be (low, high), (low, high, 'log') or a list of values, "
        f"got {value!r}"
    )
    if isinstance(value, list):
        if not value:
            raise wrong
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
        return Axis(name, tuple(sorted(value) if numbers else value), ordered=numbers)
    if not isinstance(value, tuple) or len(value) not in (2, 3) or value[2:] not in ((), ("log",)):
        raise wrong
    low, high = value[:2]
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in (low, high)):
        raise wrong
    log = len(value) == 3
    if not low < high or (log and low <= 0):
        raise wrong
    if isinstance(low, int) and isinstance(high, int) and not log:
        return Axis(name, tuple(range(low, high + 1)), ordered=True)
    return Axis(name, None, float(low), float(high), log)


def _trial(build: Callable[..., Any], setting: dict[str, Any]) -> dict[str, Any]:
    began = time.perf_counter()
    value, error = None, ""
    try:
        result = build(**setting)
    except (ValueError, NotConvergedError) as err:
        error = str(err)
    else:
        evidence = result.evidence if isinstance(result, Posterior) else result
        if not isinstance(evidence, Evidence):
            raise TypeError(
                f"build must return a posterior or an Evidence, got {type(result).__name__}"
            )
        if evidence.batch_shape:
            raise ValueError(
                f"build must return one task, got a batch of {tuple(evidence.batch_shape)}"
            )
        value = float(evidence.log_marginal_likelihood)
    seconds = round(time.perf_counter() - began, 3)
    return {"setting": setting, "value": value, "seconds": seconds, "error": error}


def _rest(row: dict[str, Any]) -> dict[str, Any]:
    value = math.nan if row["value"] is None else row["value"]
    return {"value": value, "seconds": row["seconds"], "error": row["error"]}


def _resume(file: Path, axes: Sequence[Axis]) -> list[dict[str, Any]]:
    """Read the trials of a log and cut off an incomplete last line."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        return []
    rows, kept = [], []
    lines = file.read_text().splitlines()
    for number, line in enumerate(lines):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            if number < len(lines) - 1:
                raise ValueError(f"log {file} is damaged at line {number + 1}") from None
            break
        if not isinstance(row, dict) or set(row.get("setting", ())) != {a.name for a in axes}:
            raise ValueError(
                f"log {file} is of another space: line {number + 1} must have a setting of "
                f"{', '.join(a.name for a in axes)}, got "
                f"{row.get('setting') if isinstance(row, dict) else row!r}; choose another file"
            )
        for a in axes:
            value = row["setting"][a.name]
            outside = value not in a.values if a.values else not a.low <= value <= a.high
            if outside:
                raise ValueError(
                    f"log {file} is of another space: {a.name} = {value!r} at line {number + 1} "
                    "lies outside it; choose another file"
                )
        rows.append(row)
        kept.append(line)
    file.write_text("".join(line + "\n" for line in kept))
    return rows


def _propose(
    axes: Sequence[Axis], rows: Sequence[dict[str, Any]], seed: int
) -> dict[str, Any] | None:
    """The setting of largest expected improvement, or None where all have been tried."""
    discrete = [a for a in axes if a.values is not None]
    total = math.prod(len(a.values or ()) for a in discrete)
    tried = [row["setting"] for row in rows]
    generator = torch.Generator().manual_seed(seed)
    if total <= 10_000:
        combos = [list(c) for c in itertools.product(*(a.values or () for a in discrete))]
        if len(discrete) == len(axes):
            names = [a.name for a in axes]
            combos = [c for c in combos if dict(zip(names, c, strict=True)) not in tried]
            if not combos:
                return None
        order = torch.randperm(len(combos), generator=generator).tolist()
        combos = [combos[i] for i in order]
    else:
        combos = [
            [(a.values or ())[int(torch.randint(len(a.values or ()), (), generator=generator))]
             for a in discrete]
            for _ in range(_COMBINATIONS)
        ]  # fmt: skip
    good = [row for row in rows if row["value"] is not None]
    if len(good) < 2:
        u = torch.rand(len(axes), generator=generator, dtype=torch.float64).tolist()
        chosen = dict(zip([a.name for a in discrete], combos[0], strict=True))
        return {a.name: chosen.get(a.name, a.decode(v)) for a, v in zip(axes, u, strict=True)}
    if len(discrete) < len(axes):
        best = max(good, key=lambda row: row["value"])["setting"]
        own = [best[a.name] for a in discrete]
        combos = [own, *(c for c in combos if c != own)][:_COMBINATIONS]
    x = torch.tensor([_encode(axes, row["setting"]) for row in good], dtype=torch.float64)
    y = torch.tensor([[row["value"]] for row in good], dtype=torch.float64)
    return _maximise_acquisition(axes, discrete, combos, x, y, seed)


def _maximise_acquisition(
    axes: Sequence[Axis],
    discrete: Sequence[Axis],
    combos: Sequence[Sequence[Any]],
    x: Tensor,
    y: Tensor,
    seed: int,
) -> dict[str, Any]:
    from botorch.acquisition import LogExpectedImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.models.transforms import Standardize
    from botorch.optim import optimize_acqf_mixed
    from gpytorch.mlls import ExactMarginalLogLikelihood

    names = [a.name for a in discrete]
    choices = [dict(zip(names, combo, strict=True)) for combo in combos]
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # botorch's advice on scaling and restarts
        torch.manual_seed(seed)
        spread = Standardize(m=1) if float(y.std()) > 0 else None
        model = SingleTaskGP(x, y, outcome_transform=spread)
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        gain = LogExpectedImprovement(model, best_f=y.max())
        if len(discrete) == len(axes):
            points = torch.tensor([_encode(axes, c) for c in choices], dtype=torch.float64)
            with torch.no_grad():
                values = torch.cat([gain(p[:, None]) for p in points.split(512)])
            return choices[int(values.argmax())]
        bounds = torch.tensor([[0.0], [1.0]], dtype=torch.float64).expand(2, x.shape[1])
        fixed = [_fixed(axes, choice) for choice in choices]
        best, _ = optimize_acqf_mixed(
            gain, bounds, q=1, num_restarts=3, raw_samples=64, fixed_features_list=fixed
        )
        point = best[0].tolist()
    kept = {tuple(sorted(f.items())): c for f, c in zip(fixed, choices, strict=True)}
    own = {i: point[i] for i in fixed[0]}
    chosen = kept[tuple(sorted(own.items()))] if own else {}
    return {
        a.name: chosen[a.name] if a.values else a.decode(min(max(point[start], 0.0), 1.0))
        for a, start in zip(axes, _starts(axes), strict=True)
    }


def _encode(axes: Sequence[Axis], setting: Mapping[str, Any]) -> list[float]:
    return [u for a in axes for u in a.encode(setting[a.name])]


def _starts(axes: Sequence[Axis]) -> list[int]:
    return [0, *itertools.accumulate(a.width for a in axes)][:-1]


def _fixed(axes: Sequence[Axis], choice: Mapping[str, Any]) -> dict[int, float]:
    """Coordinates of the discrete values, by index."""
    return {
        start + i: u
        for a, start in zip(axes, _starts(axes), strict=True)
        if a.values is not None
        for i, u in enumerate(a.encode(choice[a.name]))
    }

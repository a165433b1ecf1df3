"""Search sums and products of kernels by their evidence."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bayesgen import storage
from bayesgen._internal import checks, files
from bayesgen._internal.hashing import fingerprint
from bayesgen._internal.progress import Progress, ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.kernels.grammar import parsed
from bayesgen.kernels.parameters import VARIANCE
from bayesgen.models.gp.model import GaussianProcess
from bayesgen.models.gp.posterior import GPPosterior
from bayesgen.select.compare import same_models
from bayesgen.select.nested_start import Parent, kernel_of
from bayesgen.select.structure import Structure

if TYPE_CHECKING:
    import pandas as pd

# A structure with a score this far below the best one, in nats, is not expanded: its probability is
# a twentieth of the best. Below the second gain over its parent, a new kernel has vanished.
_NEAR, _GROWN = 3.0, 0.1
# Prior on structures as `kernels` takes it.
Prior = str | Callable[[Structure], float]


@dataclass(frozen=True)
class KernelSearch:
    """The structures that a search has tried, with their ranking.

    Attributes:
        ranking: one row for each structure, the best first: `log_evidence` (nats), `parameters`
            (number of learnt hyperparameters), `log_prior` and `score` (nats), `probability` (among
            those tried, each different model counted once), `same_as` (a better structure that is
            the same model at these data), `fit`, `complexity`, `at_bound`, and `failed`, which says
            why a fit did not converge.
        best: posterior of the best structure.
        posteriors: posteriors of all structures that were fitted, by text.
        penalty: what the score subtracts from the evidence.
        prior: name of the prior on structures.
    """

    ranking: pd.DataFrame
    best: GPPosterior
    posteriors: dict[str, GPPosterior] = field(repr=False)
    penalty: str = "bic"
    prior: str = "uniform"


@dataclass(frozen=True)
class _Job:
    """One fit.

    Attributes:
        structure: the structure.
        x, y: the data.
        starts, seed: settings of the search over hyperparameters.
        file: where the posterior is kept, or None.
        parent: the fitted structure that it extends, or None.
    """

    structure: Structure
    x: Tensor
    y: Tensor
    starts: int
    seed: int
    file: Path | None
    parent: Parent | None


@shows_progress
def kernels(
    x: Any,
    y: Any,
    *,
    base: Sequence[str] = ("linear", "periodic", "rbf"),
    depth: int = 3,
    beam: int = 1,
    penalty: str = "bic",
    prior: Prior = "uniform",
    starts: int = 4,
    seed: int = 0,
    store: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
    progress: ProgressOption = None,
) -> KernelSearch:
    """Search sums and products of kernels by their evidence, from white noise upwards.

    At each step, every structure of the beam is expanded: a kernel is added as a new term, a term
    is multiplied by a kernel, or a kernel is replaced. Structures of one model, such as "linear"
    and "linear + linear", are tried once (`Structure.canonical`). Each new structure is fitted by
    `GaussianProcess` from several starts and from the values of the structure that it expands, with
    a constant of learnt variance beside it. The best structures that were not expanded form the
    next beam, up to 3 nats below the best of all: two more kernels may be better where each alone
    is not. The search ends after `depth` steps, or where there are none.

        score = log p(D) − ½ p ln n + log p(S)  (BIC),   or log p(D) + log p(S)

    with p the number of learnt hyperparameters that are identified, and p(S) the prior of the
    structure. The evidence of a model is that at its best hyperparameters, which is larger for
    models with more of them; BIC is the usual correction. The probabilities are among the
    structures tried, proportional to e^score. A structure that is the same model at these data as
    a better one, such as a sum with a term that vanishes, has the probability 0.

    Args:
        x: inputs, (n, d) or (n,).
        y: real targets, (n,).
        base: the kernels, as texts of one kernel for `bayesgen.kernels.parsed`.
        depth: largest number of steps.
        beam: number of structures that are expanded at each step.
        penalty: "bic" or "none".
        prior: prior on structures: "uniform" (log p = 0); "description", the description length
            log p = −(size + 1) ln(2b + 1) of a sequence of choices, each of which adds or
            multiplies one of the b kernels of `base`, or ends; or a function from a
            `bayesgen.select.structure.Structure` to log p in nats. A constant changes nothing.
        starts, seed: as in `GaussianProcess`.
        store: folder in which each fit is kept, from which an interrupted search continues.
        executor: a `concurrent.futures.Executor` of processes that run the fits of a step.
        progress: called as progress(done, expected, what) after each fit; True shows a progress
            bar.

    Returns:
        A `KernelSearch`; white noise is among its rows.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range; no structure
            could be fitted, as for targets that are zero throughout.

    Source: Duvenaud et al. (2013); Lloyd et al. (2014).

    Example:
        >>> t = torch.linspace(0, 4, 40, dtype=torch.float64)
        >>> y = 2 * t + 0.1 * torch.cos(91 * t)
        >>> found = kernels(t, y, base=("linear", "rbf"), depth=1, starts=2)
        >>> found.ranking.index[0]
        'linear'
    """
    x = checks.owned(checks.inputs("x", x))
    y = checks.owned(checks.targets("y", y, len(x), like=x))
    if y.ndim != 1:
        raise ValueError(f"y must have shape (n,), got {tuple(y.shape)}")
    if isinstance(base, str) or not isinstance(base, Collection) or not base:
        raise ValueError(f"base must be one or more texts of kernels, got {base!r}")
    for text in base:
        parsed(text, x.shape[1])
        if "+" in text or "*" in text:
            raise ValueError(f"base must hold single kernels, got {text!r}")
    checks.whole("depth", depth)
    checks.whole("beam", beam)
    checks.one_of("penalty", penalty, ("bic", "none"))
    if not callable(prior):
        checks.one_of("prior", prior, ("uniform", "description"))
    checks.whole("starts", starts)
    checks.seed(seed)
    if executor is not None and not hasattr(executor, "map"):
        raise TypeError(f"executor must have a method map, got {type(executor).__name__}")
    rule = _Rule(penalty, prior, len(base), len(x))
    search = _Search(x, y, rule, starts, seed, _folder(store, x, y), executor, progress)
    search.fit({Structure(()): None})
    for _ in range(depth):
        parents = search.promising()[:beam]
        if not parents:
            break
        search.expanded.update(parents)
        new: dict[Structure, Structure | None] = {}
        for parent in parents:
            for structure in parent.expansions(base, x.shape[1]):
                if structure not in search.scores:
                    new.setdefault(structure, parent)
        search.fit(new)
    return search.result()


@dataclass(frozen=True)
class _Rule:
    """What the score adds to the evidence.

    Attributes:
        penalty, prior: as in `kernels`.
        kernels: number of kernels in the base.
        n: number of observations.
    """

    penalty: str
    prior: Prior
    kernels: int
    n: int

    @property
    def name(self) -> str:
        """Name of the prior."""
        return self.prior if isinstance(self.prior, str) else "given"

    def log_prior(self, structure: Structure) -> float:
        """log p(S) in nats.

        Raises:
            TypeError, ValueError: the function of the user does not return a finite number.
        """
        if self.prior == "uniform":
            return 0.0
        if isinstance(self.prior, str):
            return -(structure.size + 1) * math.log(2 * self.kernels + 1)
        value = self.prior(structure)
        try:
            found = float(value)
        except (TypeError, ValueError):
            raise TypeError(
                f"prior must return a number, got {type(value).__name__} for {structure.text!r}"
            ) from None
        if not math.isfinite(found):
            raise ValueError(f"prior must be finite, got {found} for {structure.text!r}")
        return found

    def score(self, structure: Structure, posterior: GPPosterior) -> float:
        """The score of a fitted structure in nats."""
        value = float(posterior.evidence.log_marginal_likelihood) + self.log_prior(structure)
        if self.penalty == "none":
            return value
        return value - 0.5 * _parameters(structure, posterior) * math.log(self.n)


def _folder(store: Any, x: Tensor, y: Tensor) -> Path | None:
    """The folder of these data within a store."""
    if store is None:
        return None
    folder = Path(store) / fingerprint(x, y)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class _Search:
    """Fits, scores and their result."""

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        rule: _Rule,
        starts: int,
        seed: int,
        folder: Path | None,
        executor: Executor | None,
        progress: Progress | None,
    ) -> None:
        self.x, self.y, self.rule, self.starts, self.seed = x, y, rule, starts, seed
        self.folder, self.executor, self.progress = folder, executor, progress
        self.scores: dict[Structure, float] = {}
        self.posteriors: dict[Structure, GPPosterior] = {}
        self.failed: dict[Structure, str] = {}
        self.marks: dict[Structure | None, str] = {}
        self.above: dict[Structure, Structure | None] = {}
        self.expanded: set[Structure] = set()

    def fit(self, structures: Mapping[Structure, Structure | None]) -> None:
        """Fit and score structures, each with its parent; a fit that fails has the score −∞."""
        for structure in structures:
            self.rule.log_prior(structure)
        self.above.update(structures)
        jobs = [self._job(structure, parent) for structure, parent in structures.items()]
        mapped = map if self.executor is None else self.executor.map
        for done, (job, found) in enumerate(zip(jobs, mapped(_fitted, jobs), strict=True), 1):
            if isinstance(found, str):
                self.failed[job.structure], self.scores[job.structure] = found, -math.inf
            else:
                self.posteriors[job.structure] = found
                self.scores[job.structure] = self.rule.score(job.structure, found)
            if self.progress is not None:
                self.progress(done, len(jobs), job.structure.text)

    def promising(self) -> list[Structure]:
        """The structures to expand next, the best first.

        They are not expanded yet, have a score near the best one, and more evidence than the
        structure from which they came, so that nothing in them has vanished.
        """
        top = max(self.scores.values())

        def grown(structure: Structure) -> bool:
            above = self.above[structure]
            if above is None or above not in self.posteriors:
                return True
            return _value(self.posteriors[structure]) > _value(self.posteriors[above]) + _GROWN

        found = [
            s for s, score in self.scores.items()
            if s not in self.expanded and score > top - _NEAR and grown(s)
        ]  # fmt: skip
        return sorted(found, key=lambda s: -self.scores[s])

    def _job(self, structure: Structure, above: Structure | None) -> _Job:
        parent = None
        if above is not None and above in self.posteriors:
            parent = Parent(above, self.posteriors[above])
        # A fit depends on that of its parent, which depends on its own.
        settings = [structure.text, self.starts, self.seed, self.marks.get(above)]
        mark = self.marks[structure] = fingerprint(json.dumps(settings))
        file = None if self.folder is None else self.folder / f"{mark}.bayesgen"
        return _Job(structure, self.x, self.y, self.starts, self.seed, file, parent)

    def result(self) -> KernelSearch:
        """The ranking of all structures.

        Raises:
            ValueError: no fit has converged.
        """
        import pandas as pd

        if not self.posteriors:
            raise ValueError(f"no structure could be fitted: {self.failed[min(self.failed)]}")

        order = sorted(self.scores, key=lambda s: -self.scores[s])
        fits = {s.text: self.posteriors[s] for s in order if s in self.posteriors}
        same = same_models(fits, {text: found.evidence for text, found in fits.items()})
        counted = [-math.inf if s.text in same else self.scores[s] for s in order]
        total = torch.tensor(counted, dtype=torch.float64).softmax(0).tolist()
        rows: dict[str, dict[str, Any]] = {}
        for structure, chance in zip(order, total, strict=True):
            row: dict[str, Any] = {
                "log_prior": self.rule.log_prior(structure),
                "score": self.scores[structure],
                "probability": chance,
                "same_as": same.get(structure.text, ""),
            }
            found = self.posteriors.get(structure)
            if found is None:
                row |= {"probability": math.nan, "failed": self.failed[structure]}
            else:
                e = found.evidence
                row |= {
                    "log_evidence": float(e.log_marginal_likelihood),
                    "parameters": _parameters(structure, found),
                    "fit": float(e.fit),
                    "complexity": float(e.complexity),
                    "at_bound": bool(found.at_bound),
                    "failed": "",
                }
            rows[structure.text] = row
        columns = ["log_evidence", "parameters", "log_prior", "score", "probability", "same_as",
                   "fit", "complexity", "at_bound", "failed"]  # fmt: skip
        table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
        table.index.name = "structure"
        best = self.posteriors[max(self.posteriors, key=lambda s: self.scores[s])]
        return KernelSearch(table, best, fits, self.rule.penalty, self.rule.name)


def _parameters(structure: Structure, posterior: GPPosterior) -> int:
    """Number of learnt hyperparameters that are identified.

    They are the shapes of the kernels, one variance for each term and for the constant, and the
    noise variance; variances within one product multiply, so that only one of them counts.
    """
    coordinates = posterior._gram.coordinates
    shapes = sum(p.where.stop - p.where.start for p in coordinates.parameters if p.role != VARIANCE)
    return shapes + len(structure.terms) + 2


def _fitted(job: _Job) -> GPPosterior | str:
    """The posterior of one job, from its file if there is one; or why there is none."""
    if job.file is not None and job.file.is_file():
        kept: Any = storage.load(job.file)
        posterior: GPPosterior = kept
        return posterior
    found = _searched(job)
    if job.parent is not None:
        nested = _climbed(job, job.parent)
        if nested is not None and (isinstance(found, str) or _value(nested) > _value(found)):
            found = nested
    if isinstance(found, str):
        return found
    if job.file is not None:
        file = job.file
        result = found
        files.write(file, lambda path: result.save(path))
    return found


def _value(posterior: GPPosterior) -> float:
    return float(posterior.evidence.log_marginal_likelihood)


def _searched(job: _Job) -> GPPosterior | str:
    """The posterior of the best of several starts, or why there is none."""
    kernel = kernel_of(job.structure, job.x)
    model: GaussianProcess[GPPosterior] = GaussianProcess(kernel, starts=job.starts, seed=job.seed)
    try:
        return model.fit(job.x, job.y)
    except (ValueError, RuntimeError) as err:
        return str(err).splitlines()[0]


def _climbed(job: _Job, parent: Parent) -> GPPosterior | None:
    """The posterior of the mode above the values of the parent, or None."""
    start = parent.start(job.structure, job.x, job.y, job.starts, job.seed)
    if start is None:
        return None
    kernel, noise = start
    try:
        found = GaussianProcess(kernel, noise, starts=1, seed=job.seed).fit(job.x, job.y)
    except (ValueError, RuntimeError):
        return None
    found.learn(start=False)  # the start was learnt on the data
    return found

"""Search sums and products of kernels by their evidence."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bayesgen import storage
from bayesgen._internal import checks, files
from bayesgen._internal.hashing import fingerprint
from bayesgen._internal.progress import Progress
from bayesgen.kernels.grammar import parsed
from bayesgen.kernels.parameters import VARIANCE
from bayesgen.models.gp.model import GaussianProcess
from bayesgen.models.gp.posterior import GPPosterior

if TYPE_CHECKING:
    import pandas as pd

# Kernels that a product holds at most once, because their product is one of them again.
_ONCE = frozenset({"rbf", "constant"})
NULL = "white noise"


@dataclass(frozen=True, order=True)
class Structure:
    """A sum of products of kernels, in a form that does not depend on the order.

    Attributes:
        terms: the products, sorted; each is a sorted tuple of kernels as texts.

    Example:
        >>> Structure((("rbf",), ("periodic", "rbf"))).text
        'rbf + periodic*rbf'
        >>> [s.text for s in Structure((("linear",),)).expansions(("linear", "rbf"))]
        ['linear + linear', 'linear*linear', 'linear + rbf', 'linear*rbf', 'rbf']
    """

    terms: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, terms: Sequence[Sequence[str]]) -> Structure:
        """The structure of some products in any order."""
        return cls(
            tuple(sorted((tuple(sorted(term)) for term in terms), key=lambda t: (len(t), t)))
        )

    @property
    def text(self) -> str:
        """The structure as a text for `bayesgen.kernels.parsed`; white noise has no kernel."""
        return " + ".join("*".join(term) for term in self.terms) or NULL

    @property
    def size(self) -> int:
        """Number of kernels in all terms."""
        return sum(map(len, self.terms))

    def expansions(self, base: Sequence[str]) -> Iterator[Structure]:
        """Structures with one kernel more, or with one kernel replaced by another, each once."""
        seen = {self}
        for kernel in base:
            found = [[*self.terms, (kernel,)]]
            for i, term in enumerate(self.terms):
                others = [*self.terms[:i], *self.terms[i + 1 :]]
                found.append([*others, (*term, kernel)])
                found += [[*others, (*term[:k], kernel, *term[k + 1 :])] for k in range(len(term))]
            for terms in found:
                new = Structure.of(terms)
                once = all(term.count(k) <= 1 for term in new.terms for k in _ONCE)
                if once and new not in seen:
                    seen.add(new)
                    yield new


@dataclass(frozen=True)
class KernelSearch:
    """The structures that a search has tried, with their ranking.

    Attributes:
        ranking: one row for each structure, the best first: `log_evidence` (nats), `parameters`
            (number of learnt hyperparameters), `score` (nats), `probability` (among those tried),
            `fit`, `complexity`, `at_bound`, and `failed`, which says why a fit did not converge.
        best: posterior of the best structure.
        posteriors: posteriors of all structures that were fitted, by text.
        penalty: what the score subtracts from the evidence.
    """

    ranking: pd.DataFrame
    best: GPPosterior
    posteriors: dict[str, GPPosterior] = field(repr=False)
    penalty: str = "bic"


@dataclass(frozen=True)
class _Job:
    """One fit.

    Attributes:
        structure: the structure.
        x, y: the data.
        starts, seed: settings of the search over hyperparameters.
        file: where the posterior is kept, or None.
    """

    structure: Structure
    x: Tensor
    y: Tensor
    starts: int
    seed: int
    file: Path | None


def kernels(
    x: Any,
    y: Any,
    *,
    base: Sequence[str] = ("linear", "periodic", "rbf"),
    depth: int = 3,
    beam: int = 1,
    penalty: str = "bic",
    starts: int = 4,
    seed: int = 0,
    store: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> KernelSearch:
    """Search sums and products of kernels by their evidence, from white noise upwards.

    At each step, every structure of the beam is expanded: a kernel is added as a new term, a term
    is multiplied by a kernel, or a kernel is replaced. Each new structure is fitted by
    `GaussianProcess` from several starts, with a constant of learnt variance beside it. The best
    structures form the next beam. The search ends after `depth` steps, or where no expansion has a
    better score.

        score = log p(D) − ½ p ln n  (BIC),   or log p(D)

    with p the number of learnt hyperparameters that are identified. The evidence of a model is that
    at its best hyperparameters, which is larger for models with more of them; BIC is the usual
    correction. The probabilities are those of the structures tried, equal beforehand, with evidence
    e^score.

    Args:
        x: inputs, (n, d) or (n,).
        y: real targets, (n,).
        base: the kernels, as texts of one kernel for `bayesgen.kernels.parsed`.
        depth: largest number of steps.
        beam: number of structures that are expanded at each step.
        penalty: "bic" or "none".
        starts, seed: as in `GaussianProcess`.
        store: folder in which each fit is kept, from which an interrupted search continues.
        executor: a `concurrent.futures.Executor` of processes that run the fits of a step.
        progress: called as progress(done, expected, what) after each fit.

    Returns:
        A `KernelSearch`; white noise is among its rows.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

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
    if isinstance(base, str) or not len(base):
        raise ValueError(f"base must be one or more texts of kernels, got {base!r}")
    for text in base:
        parsed(text, x.shape[1])
        if "+" in text or "*" in text:
            raise ValueError(f"base must hold single kernels, got {text!r}")
    checks.whole("depth", depth)
    checks.whole("beam", beam)
    checks.one_of("penalty", penalty, ("bic", "none"))
    checks.whole("starts", starts)
    checks.seed(seed)
    search = _Search(x, y, penalty, starts, seed, _folder(store, x, y), executor, progress)
    best = [Structure(())]
    search.fit(best)
    for _ in range(depth):
        new = [s for parent in best for s in parent.expansions(base) if s not in search.scores]
        search.fit(list(dict.fromkeys(new)))
        ranked = sorted(search.scores, key=lambda s: -search.scores[s])[:beam]
        if ranked == best:
            break
        best = ranked
    return search.result()


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
        penalty: str,
        starts: int,
        seed: int,
        folder: Path | None,
        executor: Executor | None,
        progress: Progress | None,
    ) -> None:
        self.x, self.y, self.penalty, self.starts, self.seed = x, y, penalty, starts, seed
        self.folder, self.executor, self.progress = folder, executor, progress
        self.scores: dict[Structure, float] = {}
        self.posteriors: dict[Structure, GPPosterior] = {}
        self.failed: dict[Structure, str] = {}

    def fit(self, structures: list[Structure]) -> None:
        """Fit some structures and score them; a fit that fails has the score −∞."""
        jobs = [self._job(structure) for structure in structures]
        mapped = map if self.executor is None else self.executor.map
        for done, (job, found) in enumerate(zip(jobs, mapped(_fitted, jobs), strict=True), 1):
            if isinstance(found, str):
                self.failed[job.structure], self.scores[job.structure] = found, -math.inf
            else:
                self.posteriors[job.structure] = found
                self.scores[job.structure] = self._score(job.structure, found)
            if self.progress is not None:
                self.progress(done, len(jobs), job.structure.text)

    def _job(self, structure: Structure) -> _Job:
        file = None
        if self.folder is not None:
            mark = fingerprint(json.dumps([structure.text, self.starts, self.seed]))
            file = self.folder / f"{mark}.bayesgen"
        return _Job(structure, self.x, self.y, self.starts, self.seed, file)

    def _score(self, structure: Structure, posterior: GPPosterior) -> float:
        value = float(posterior.evidence.log_marginal_likelihood)
        if self.penalty == "none":
            return value
        return value - 0.5 * _parameters(structure, posterior) * math.log(len(self.x))

    def result(self) -> KernelSearch:
        """The ranking of all structures."""
        import pandas as pd

        total = torch.tensor(list(self.scores.values()), dtype=torch.float64).softmax(0).tolist()
        rows: dict[str, dict[str, Any]] = {}
        for (structure, score), chance in zip(self.scores.items(), total, strict=True):
            row: dict[str, Any] = {"score": score, "probability": chance}
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
        columns = ["log_evidence", "parameters", "score", "probability", "fit", "complexity",
                   "at_bound", "failed"]  # fmt: skip
        table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
        table = table.sort_values("score", ascending=False, kind="stable")
        table.index.name = "structure"
        best = max(self.posteriors, key=lambda s: self.scores[s])
        named = {s.text: posterior for s, posterior in self.posteriors.items()}
        return KernelSearch(table, self.posteriors[best], named, self.penalty)


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
    text = "constant" if not job.structure.terms else f"{job.structure.text} + constant"
    model: Any = GaussianProcess(parsed(text, job.x.shape[1]), starts=job.starts, seed=job.seed)
    try:
        found: GPPosterior = model.fit(job.x, job.y)
    except (ValueError, RuntimeError) as err:
        return str(err).splitlines()[0]
    if job.file is not None:
        file = job.file
        files.write(file, lambda path: found.save(path))
    return found

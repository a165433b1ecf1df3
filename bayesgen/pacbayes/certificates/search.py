"""Search for the best certificate among stated priors, or among priors from a part of the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from bayesgen._internal import checks
from bayesgen._internal.progress import Progress, ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.pacbayes.certificates import losses
from bayesgen.pacbayes.certificates.certificate import Certificate
from bayesgen.pacbayes.certificates.free_mean import certified
from bayesgen.pacbayes.certificates.losses import Loss
from bayesgen.pacbayes.certificates.posterior import (
    TUNED,
    require_data_independence,
    tuned_certificate,
)
from bayesgen.pacbayes.certificates.predictors import FittedPredictor, Updated
from bayesgen.pacbayes.certificates.request import CertificateTerms, terms
from bayesgen.pacbayes.certificates.tuning import TunedSetting, TuningProblem, coarse, refine
from bayesgen.posterior.posterior import ExactPosterior
from bayesgen.posterior.traced import pay, tuned as tuned_to_bound
from bayesgen.provenance import (
    Data,
    Payment,
    Provenance,
    feature_sources,
    now,
    shared_rows,
    sources,
)
from bayesgen.provenance.data import EQUAL
from bayesgen.spectrum.spectrum import Spectrum

# Factors for the covariance of a data-dependent prior; the choice among them is paid for.
COOLING = (1.0, 0.25, 0.0625, 0.015625)
# Quadrature nodes during the search; an error of 1e-6 suffices for a ranking.
_QUICK = 24
# Number of priors refined for each task after the ranking on the coarse grid.
_FINALISTS = 2


@runtime_checkable
class PriorOfRest(Protocol):
    """A posterior that can be the prior for other observations, such as that of a deep kernel."""

    def as_prior(self, x_new: Any, y_new: Tensor) -> tuple[Spectrum, Tensor]:
        """Spectrum of its covariance at other inputs with their targets, and its mean there."""
        ...


@dataclass(frozen=True)
class _Candidate:
    """One prior on the points in the bound.

    Attributes:
        name: name given by the user.
        spectrum: spectrum of its covariance, with the targets of one task minus the mean.
        offset: mean of the prior, (n, C).
        scale: outputscale s to keep, or None where it is free.
        cost: −ln of its probability among the stated priors.
        posterior: function (s, σ²) → posterior for predictions, or None.
        choices: choices that the data have made of the prior before, at a price.
    """

    name: str
    spectrum: Spectrum
    offset: Tensor
    scale: float | None
    cost: float
    posterior: Callable[[float, float], ExactPosterior | Updated] | None
    choices: tuple[Payment, ...] = ()


@shows_progress
def certify(
    models: Mapping[str, Any] | Sequence[Any] | Any,
    x: Any,
    y: Any,
    *,
    delta: float = 0.05,
    bound: str = "maurer",
    predictor: str = "gibbs",
    log_prior: Mapping[str, float] | None = None,
    mean: str = "posterior",
    split: float | None = None,
    cooling: Sequence[float] = COOLING,
    unseen: bool = False,
    seed: int = 0,
    progress: ProgressOption = None,
) -> Any:
    """The smallest certified 0–1 risk among models whose priors are stated before the data.

    For each model the outputscale and the noise variance are tuned to the bound at no cost: the
    0–1 loss does not depend on the outputscale, and the noise variance only shapes Q. The choice of
    the model costs ln(#models), or −ln of its prior probability. Each task has its own best model.

    With `split`, a random part of the data makes the prior. The model is fitted to that part with
    all its hyperparameters, and its posterior P is the prior for the rest, on which alone the bound
    is computed. KL(Q ‖ P) is then the complexity of the conditional evidence. Priors with a
    fraction of the covariance of P are tried too, and paid for.

    Args:
        models: mapping from names to `GaussianProcess` or `LinearModel` objects with Gaussian
            noise, a sequence of them, or one. Without `split`, their kernel, decay and order are
            kept as given. A `Spectrum` of the prior covariance on x is also accepted.
        x: inputs, (n, d); None where every model is a `Spectrum`.
        y: coded labels, (n,), (n, C) or (B, n, C): one-hot, or one output of two signs.
        delta, bound, predictor: as in `Posterior.certificate`.
        log_prior: name → ln of its prior probability; uniform by default. The probabilities may
            sum to less than one.
        mean: "posterior", where Q is a posterior at some (s, σ²), or "free", where its mean is any
            function in the span of the data, optimised for the bound. "free" gives lower bounds
            and is slower.
        split: fraction of the data for the prior, in (0, 1).
        cooling: factors for the covariance of P to try with `split`, stated before the data.
        unseen: True states that the initial weights of deep kernels were chosen without the data,
            for example at random.
        seed: seed of the split.
        progress: called as progress(done, expected, what); True shows a progress bar.

    Returns:
        A `Certificate`, or a list of B for a batch. `Certificate.posterior` is the certified
        posterior. With `split` or a free mean it is an object with only a method `mean(x_new)`;
        where a `Spectrum` was given it is None.

    Raises:
        TypeError: a model is not of a supported kind.
        ValueError: an argument is out of range; the targets are not coded labels.

    Source: Maurer (2004); Ambroladze et al. (2006) for priors from a part of the data.

    Example:
        >>> import gpytorch, bayesgen as bg
        >>> data = bg.data.restrict(bg.data.load("digits", train=400), (3, 8))
        >>> y = 2 * data.y_train.double() - 1
        >>> models = {}
        >>> for value in (1.0, 2.0, 4.0):
        ...     kernel = gpytorch.kernels.RBFKernel()
        ...     kernel.lengthscale = value
        ...     models[f"length-scale {value}"] = bg.GaussianProcess(kernel)
        >>> certify(models, data.x_train, y).payments[0].reason
        'the choice among 3 priors stated beforehand'
    """
    checks.one_of("mean", mean, ("posterior", "free"))
    seed = checks.seed(seed)
    if mean == "free" and split is not None:
        raise ValueError('mean="free" is for priors stated beforehand, not with split')
    asked = terms(delta, bound, predictor)
    named = _named(models)
    costs = _costs(named, log_prior)
    if split is None:
        y = _targets(y, x, named)
        found = _search(named, x, y, costs, asked, mean == "free", progress)
    else:
        _ask(named, checks.flag("unseen", unseen))
        found = _with_split(named, x, y, costs, asked, split, cooling, seed, progress)
    return found if torch.as_tensor(y).ndim == 3 else found[0]


def _search(
    named: dict[str, Any],
    x: Any,
    y: Tensor,
    costs: dict[str, float],
    asked: CertificateTerms,
    free: bool,
    progress: Progress | None,
) -> list[Certificate]:
    """Rank all priors on a coarse grid, then refine a few of the best for each task."""
    coded = _batch(y)
    finalists: list[list[tuple[TunedSetting, str]]] = [[] for _ in coded]
    words = f"the choice among {len(named)} priors stated beforehand"
    last: tuple[str, list[_Candidate]] = ("", [])
    for i, name in enumerate(named):
        last = (name, _candidates(name, named[name], x, y, costs[name]))
        for b, one in enumerate(last[1]):
            quick = losses.zero_one(coded[b], _QUICK)
            terms_ = _paying(asked, one, words)
            finalists[b].append((coarse(_problem(one, quick, terms_)), name))
        if progress is not None:
            progress(i + 1, 2 * len(named), f"prior {name}")
    best: list[Certificate | None] = [None] * len(coded)
    chosen = [sorted(of, key=lambda f: f[0].bound)[:_FINALISTS] for of in finalists]
    wanted = [name for name in named if any(name == f[1] for of in chosen for f in of)]
    for i, name in enumerate(wanted):
        if last[0] != name:
            last = (name, _candidates(name, named[name], x, y, costs[name]))
        for b, one in enumerate(last[1]):
            for start, of in chosen[b]:
                if of != name:
                    continue
                finish = _finish_free if free else _finish
                made = finish(one, coded[b], start, _paying(asked, one, words))
                best[b] = _lower(best[b], made)
        if progress is not None:
            progress(len(named) + i + 1, len(named) + len(wanted), f"refining {name}")
    return [c for c in best if c is not None]


def _with_split(
    named: dict[str, Any],
    x: Any,
    y: Any,
    costs: dict[str, float],
    asked: CertificateTerms,
    split: float,
    cooling: Sequence[float],
    seed: int,
    progress: Progress | None,
) -> list[Certificate]:
    """Certificates with priors fitted to a first part of the data and bounds on the rest."""
    if not 0 < checks.share("split", split) < 1:
        raise ValueError(f"split must lie in (0, 1), got {split}")
    if isinstance(cooling, str) or not isinstance(cooling, Iterable):
        raise TypeError(f"cooling must be a sequence of positive numbers, got {cooling!r}")
    shares = [checks.positive_number("cooling", c) for c in cooling]
    if not shares:
        raise ValueError("cooling must hold at least one share of the prior's covariance")
    x = checks.inputs("x", x)
    y = checks.targets("y", y, len(x), like=x)
    coded = _batch(y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    m = round(split * len(x))
    if not 1 <= m < len(x):
        raise ValueError(f"split must leave points on both sides, got {m} of {len(x)}")
    first, rest = order[:m], order[m:]
    words = f"the choice among {len(named)} × {len(shares)} priors"
    note = (
        f"The prior is what {m:,} other observations made of the model, hyperparameters and all; "
        "the bound rests on those that are left."
    )
    equal = int(shared_rows(x[rest], Data(x[first])).sum())
    if equal:
        note += f" {EQUAL.format(count=equal)}"
    best: list[Certificate | None] = [None] * len(coded)
    for i, (name, model) in enumerate(named.items()):
        for b, labels in enumerate(coded):
            data = Data(x[rest], labels[rest])
            parts = {"a value of the model": [model]}
            learnt = (*sources(parts, data, now()), *feature_sources(data, now()))
            known = Provenance(data, learnt)
            _require_stated(name, known, ())
            posterior = _fitted(name, model, x[first], labels[first], None)
            spectrum, offset = posterior.as_prior(x[rest], labels[rest])
            for share in shares:
                cost = costs[name] + math.log(len(shares))
                one = _Candidate(
                    name,
                    spectrum,
                    offset,
                    share,
                    cost,
                    partial(_updated, posterior, x[rest], spectrum),
                    known.choices,
                )
                made = _finish(one, labels[rest], None, _paying(asked, one, words), notes=(note,))
                best[b] = _lower(best[b], made)
            if progress is not None:
                done = i * len(coded) + b + 1
                progress(done, len(named) * len(coded), f"prior {name} from {m:,} points")
    return [c for c in best if c is not None]


def _ask(named: dict[str, Any], stated: bool) -> None:
    """Refuse deep kernels whose initial weights are not stated to be chosen without the data."""
    for name, model in named.items():
        if _of_network(model) and not stated:
            raise ValueError(
                f"models[{name!r}] has a network of which it is not known how its initial weights "
                "were chosen; pass unseen=True to state that they were chosen without the data, "
                "for example at random"
            )


def _of_network(model: Any) -> bool:
    """Whether a model trains the features of a network, such as `DeepKernel`."""
    return isinstance(getattr(model, "net", None), nn.Module)


def _lower(old: Certificate | None, new: Certificate) -> Certificate:
    return new if old is None or new.bound < old.bound else old


def _finish(
    one: _Candidate,
    y: Tensor,
    start: TunedSetting | None,
    asked: CertificateTerms,
    notes: tuple[str, ...] = (),
) -> Certificate:
    """Tune Q to the bound with few quadrature nodes, then certify it with the full rule."""
    quick = _problem(one, losses.zero_one(y, _QUICK), asked)
    setting = refine(quick, coarse(quick) if start is None else start)
    full = replace(quick, loss=losses.zero_one(y))
    moved = _predictor(one, setting, asked)
    return tuned_certificate(full, setting, asked, moved, notes)


def _predictor(
    one: _Candidate, setting: TunedSetting, asked: CertificateTerms
) -> ExactPosterior | Updated | None:
    """The certified posterior, which carries the payments for its choice."""
    made = None if one.posterior is None else one.posterior(setting.scale, setting.noise)
    if isinstance(made, ExactPosterior):
        for number, payment in enumerate(asked.payments):
            pay(made, {f"model {number + 1}"}, payment)
    return made


def _finish_free(
    one: _Candidate, y: Tensor, start: TunedSetting, asked: CertificateTerms
) -> Certificate:
    """Optimise the mean of Q for the bound, starting from the best posterior, and certify it."""
    quick = _problem(one, losses.zero_one(y, _QUICK), asked)
    setting = refine(quick, start)
    near = _predictor(one, setting, asked)

    def predictor(weights: Tensor) -> FittedPredictor | None:
        return FittedPredictor(near, weights) if isinstance(near, ExactPosterior) else None

    return certified(quick, setting, losses.zero_one(y), asked, predictor)


def _problem(one: _Candidate, kind: Loss, asked: CertificateTerms) -> TuningProblem:
    return TuningProblem.of(one.spectrum, one.offset, kind, asked.bound(one.spectrum.n), one.scale)


def _candidates(name: str, model: Any, x: Any, y: Tensor, cost: float) -> list[_Candidate]:
    """The prior of one model on x for each task; the tasks share the decomposition."""
    if isinstance(model, Spectrum):
        learnt = sources({"kernel": [model.largest_nodes()]}, None, now())
        _require_stated(name, Provenance(None, learnt))
        spectrum = model.load(y)
        offset = torch.zeros_like(y if y.ndim == 2 else y[0])
        count = len(y) if y.ndim == 3 else 1
        paid = model.payments
        return [
            _Candidate(name, spectrum.task(b), offset, None, cost, None, paid) for b in range(count)
        ]
    posterior = _fitted(name, model, x, y, ("scale", "noise"))
    require_data_independence(posterior)
    offset = posterior.prior_mean()
    free = losses.is_trivial(offset)
    if not free:  # with a mean, the given outputscale is part of the prior
        posterior = _fitted(name, model, x, y, ("noise",))
    tuned = TUNED if free else TUNED - {"scale"}
    _require_stated(name, posterior.provenance, tuned)
    scale: Tensor = posterior.scale
    made = []
    for b in range(len(posterior.observed.y)):
        kept = None if free else float(scale.reshape(-1)[b])
        made.append(
            _Candidate(
                name,
                posterior.spectrum(b),
                offset,
                kept,
                cost,
                partial(_at, posterior, b, tuned),
                posterior.provenance.choices,
            )
        )
    return made


def _updated(
    first: ExactPosterior, x: Tensor, spectrum: Spectrum, scale: float, noise: float
) -> Updated:
    return Updated(first, x, scale * spectrum.solve(scale, noise)[0])


def _at(
    posterior: ExactPosterior, b: int, names: frozenset[str], scale: float, noise: float
) -> ExactPosterior:
    return tuned_to_bound(posterior.at(task=b, scale=scale, noise=noise), names)


def _require_stated(name: str, found: Provenance, free: Collection[str] = TUNED) -> None:
    """Check that the prior of a model was not learnt on the data in the bound."""
    owed = sorted(found.unpaid - set(free))
    if owed:
        raise ValueError(
            f"models[{name!r}] must be stated before the data in the bound, but "
            f"{found.describe(owed)}; state its values, learn them on other observations, or pass "
            "split= with a model whose own values were stated"
        )


def _fitted(name: str, model: Any, x: Any, y: Any, learn: tuple[str, ...] | None) -> Any:
    if learn is not None and _of_network(model):
        raise ValueError(
            f"models[{name!r}] must have a prior stated before the data, but its features are "
            "learnt; pass split=, so that a part of the data makes the prior"
        )
    posterior = model.fit(x, y) if learn is None else model.fit(x, y, hyperparameters=learn)
    prior = learn is None and isinstance(posterior, PriorOfRest)
    if not (prior or isinstance(posterior, ExactPosterior)):
        raise TypeError(f"models[{name!r}] must make exact posteriors, of Gaussian noise")
    return posterior


def _targets(y: Any, x: Any, named: dict[str, Any]) -> Tensor:
    if x is not None:
        x = checks.inputs("x", x)
        return checks.targets("y", y, len(x), like=x)
    only = [name for name, model in named.items() if not isinstance(model, Spectrum)]
    if only:
        raise ValueError(f"x must be given for the models {', '.join(only)}")
    first: Spectrum = next(iter(named.values()))
    return checks.targets("y", y, first.n, like=first.density.nodes)


def _batch(y: Tensor) -> Tensor:
    """Targets in the shape (B, n, C)."""
    return y if y.ndim == 3 else y.reshape(1, len(y), -1)


def _named(models: Any) -> dict[str, Any]:
    if isinstance(models, Mapping):
        named = dict(models)
    elif isinstance(models, Sequence):
        named = {f"{i + 1}": model for i, model in enumerate(models)}
    else:
        named = {"1": models}
    if not named:
        raise ValueError("models must hold at least one model, got none")
    for name, model in named.items():
        if not isinstance(model, Spectrum) and not hasattr(model, "fit"):
            raise TypeError(
                f"models[{name!r}] must be a GaussianProcess, a LinearModel or a Spectrum, got "
                f"{type(model).__name__}"
            )
        if getattr(model, "likelihood", None) is not None:
            raise TypeError(
                f"models[{name!r}] must have Gaussian noise, got a {model.likelihood.name} "
                "likelihood; codings of labels (bayesgen.likelihoods.one_hot) do for classes"
            )
    return named


def _costs(named: dict[str, Any], log_prior: Mapping[str, float] | None) -> dict[str, float]:
    if log_prior is None:
        return dict.fromkeys(named, math.log(len(named)))
    if set(log_prior) != set(named):
        raise ValueError(f"log_prior must name the models {list(named)}, got {list(log_prior)}")
    logs = torch.tensor([float(log_prior[name]) for name in named], dtype=torch.float64)
    if not torch.isfinite(logs).all() or float(logs.exp().sum()) > 1 + 1e-9:
        raise ValueError(
            "log_prior must hold finite logarithms of probabilities that sum to at most 1, got a "
            f"sum of {float(logs.exp().sum()):.4g}"
        )
    return {name: -float(value) for name, value in zip(named, logs, strict=True)}


def _paying(asked: CertificateTerms, one: _Candidate, words: str) -> CertificateTerms:
    own = (Payment(words, one.cost),) if one.cost > 0 else ()
    return asked.paying((*one.choices, *own))

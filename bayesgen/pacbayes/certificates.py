"""Certificates of fitted models: what is bounded, what is free, what is paid for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bayesgen import _checks
from bayesgen.models.base import ExactPosterior, Posterior
from bayesgen.pacbayes import _door, bounds
from bayesgen.pacbayes import loss as losses
from bayesgen.pacbayes.certificate import Certificate, OracleBound, Payment, Statement
from bayesgen.pacbayes.inverse_kl import monte_carlo
from bayesgen.pacbayes.loss import Loss
from bayesgen.pacbayes.tuning import Problem, Setting, coarse, refine
from bayesgen.pacbayes.vote import vote

if TYPE_CHECKING:
    from bayesgen.evidence import Evidence

Bound = Callable[[Any, Any, int, float], Tensor]


@dataclass(frozen=True)
class Theorem:
    """A bound for losses in [0, 1] and where it comes from."""

    words: str
    function: Bound


THEOREMS: dict[str, Theorem] = {
    "maurer": Theorem("Inverse binary kl, Maurer (2004)", bounds.maurer),
    "mcallester": Theorem(
        "Square root of the KL, McAllester (1999)",
        lambda r, kl, n, d: bounds.mcallester(r, kl, n, delta=d),
    ),
    "quadratic": Theorem("Quadratic form, Pérez-Ortiz et al. (2021)", bounds.quadratic),
    "thiemann": Theorem("At the best λ, Thiemann et al. (2017)", bounds.thiemann),
    "catoni": Theorem(
        "Catoni (2007) at C = 1", lambda r, kl, n, d: bounds.catoni(r, kl, n, delta=d)
    ),
    "catoni_union": Theorem("Catoni (2007), a union over λ", bounds.catoni_union),
    "alquier": Theorem(
        "Alquier et al. (2016) at λ = √n", lambda r, kl, n, d: bounds.alquier(r, kl, n, delta=d)
    ),
}

# Which of a posterior's learnt hyperparameters a grid's entry stands for.
_GRIDS = {
    "lengthscale": "kernel",
    "scale": "scale",
    "noise": "noise",
    "decay": "decay",
    "order": "order",
}
# An error of KL beyond this share of it leaves no KL to speak of.
_TOO_UNCERTAIN = 0.1
# Errors below this many nats an observation, or this share of the KL, are rounding, and enter as
# they are.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Terms:
    """What a certificate is asked for.

    Attributes:
        delta: δ.
        theorem: the inequality.
        predictor: "gibbs" or "vote".
        payments: beside the KL.
    """

    delta: float
    theorem: Theorem
    predictor: str
    payments: tuple[Payment, ...] = ()

    @property
    def paid(self) -> float:
        """Nats of the payments."""
        return sum(p.nats for p in self.payments)

    def bound(self, n: int) -> Callable[[Tensor, Tensor], Tensor]:
        """(risk, KL) → bound, for `tuning`."""
        return lambda risk, kl: self.theorem.function(risk, kl + self.paid, n, self.delta)


def terms(delta: float, bound: str, predictor: str, payments: Sequence[Payment] = ()) -> Terms:
    """Terms, checked.

    Raises:
        ValueError: δ outside (0, 1), an unknown bound or predictor.
    """
    _door.log_delta(delta)
    theorem = THEOREMS[_checks.one_of("bound", bound, tuple(THEOREMS))]
    _checks.one_of("predictor", predictor, ("gibbs", "vote"))
    return Terms(delta, theorem, predictor, tuple(payments))


def certify_posterior(
    posterior: Posterior,
    *,
    delta: float,
    loss: str,
    bound: str,
    predictor: str,
    noise: str | None,
    grid: Mapping[str, Sequence[float]] | None,
    clip: Any,
    subgamma: tuple[float, float] | None,
    labelling: int | None,
) -> Statement:
    """See `Posterior.certificate`."""
    asked = terms(delta, bound, predictor)
    if noise is not None:
        _checks.one_of("noise", noise, ("tune", "keep"))
    batch = len(posterior.observed.y)
    if posterior.observed.batched and labelling is None:
        raise ValueError(f"labelling must be given, 0..{batch - 1}: the posterior is of a batch")
    b = labelling or 0
    if not isinstance(posterior, ExactPosterior):
        if subgamma is not None or grid is not None or noise == "tune":
            raise ValueError(
                "subgamma, grid and noise are for posteriors with Gaussian noise; under Laplace's "
                "approximation fit with the kernel fixed at a value stated beforehand"
            )
        return _of_laplace(posterior, asked, loss, b)
    if subgamma is not None:
        return _oracle(posterior, b, asked, loss, subgamma)
    kind = losses.of(posterior.observed, b, loss, clip, one_noise(posterior, b))
    tuned = "noise" in posterior.learnt if noise is None else noise == "tune"
    if tuned and noise == "tune" and not kind.noise_free:
        raise ValueError('noise="tune" is for losses without the noise in them, not for the nll')
    owed = _owed(posterior, kind)
    if grid is not None:
        posterior, payment = _rounded(posterior, b, grid, owed)
        b, asked = 0, replace(asked, payments=(payment,))
        kind = losses.of(posterior.observed, b, loss, clip, one_noise(posterior, b))
    elif owed:
        raise ValueError(_refusal(owed, kind))
    if not tuned or not kind.noise_free:
        return statement(posterior, b, kind, asked)
    free_scale = kind.scale_free and losses.is_trivial(posterior.prior_mean())
    kept = None if free_scale else float(_part(posterior, "scale", b))
    problem = Problem.of(
        posterior.spectrum(b),
        posterior.prior_mean(),
        kind,
        asked.bound(posterior.observed.n),
        kept,
    )
    best = refine(problem, coarse(problem))
    moved = posterior.at(labelling=b, scale=best.scale, noise=best.noise)
    return tuned_certificate(problem, best, asked, moved)


def tuned_certificate(
    problem: Problem,
    best: Setting,
    asked: Terms,
    posterior: ExactPosterior | None,
    notes: tuple[str, ...] = (),
) -> Certificate:
    """The certificate at a setting of a tuned problem; `posterior` is the one it stands for."""
    scale, noise = (problem.offset.new_tensor(v) for v in (best.scale, best.noise))
    mean, variance = problem.marginals(scale, noise)
    settings = {"scale": best.scale, "noise": best.noise}
    free = "The noise only shapes the posterior: it was tuned to this bound, free of charge."
    if problem.scale is None:
        free = (
            "The noise only shapes the posterior, and the 0–1 loss knows no outputscale: both were "
            "tuned to this bound, free of charge."
        )
    return certificate(
        mean,
        variance,
        problem.evidence(scale, noise),
        problem.loss,
        asked,
        settings=settings if posterior is None else _settings(posterior, 0),
        free=free,
        posterior=posterior,
        notes=notes,
    )


def statement(posterior: ExactPosterior, b: int, kind: Loss, asked: Terms) -> Certificate:
    """The certificate of one labelling's posterior as it is, the KL that of its Evidence."""
    evidence = posterior.evidence[b] if posterior.observed.batched else posterior.evidence
    mean, variance = posterior.marginals(b)
    return certificate(
        mean,
        variance,
        evidence,
        kind,
        asked,
        settings=_settings(posterior, b),
        posterior=posterior,
    )


def certificate(
    mean: Tensor,
    variance: Tensor,
    evidence: Evidence,
    kind: Loss,
    asked: Terms,
    *,
    settings: dict[str, float],
    free: str = "",
    posterior: Any = None,
    notes: tuple[str, ...] = (),
) -> Certificate:
    """The certificate of a Gaussian posterior from its marginals at the sample and its Evidence.

    Args:
        mean, variance: (n, C), the variance also (n, 1).
        evidence: of one labelling; its complexity is the KL.
        kind: the loss.
        asked: what is wanted.
        settings, free, posterior, notes: for the record.
    """
    variance = _shared(variance) if kind.labels is not None else variance
    expected = kind.expected(mean, variance).detach()
    kl, delta, uncertain = sure_complexity(evidence, asked.delta)
    words, notes = asked.theorem.words, notes + uncertain
    risk, total = expected.mean().clamp(0, 1), kl + asked.paid
    if asked.predictor == "vote":
        value, words = vote(expected, total, delta, kind)
    else:
        value = float(asked.theorem.function(risk, total, evidence.n, delta))
    return Certificate(
        bound=kind.unscaled(min(value, 1.0)),
        risk=kind.unscaled(float(risk)),
        complexity=kl,
        delta=asked.delta,
        n=evidence.n,
        loss=kind.words,
        predictor=asked.predictor,
        theorem=words,
        payments=asked.payments,
        free=free,
        guessing=None if kind.guessing is None else kind.unscaled(kind.guessing),
        settings=settings,
        notes=notes,
        posterior=posterior,
    )


def sure_complexity(evidence: Evidence, delta: float) -> tuple[float, float, tuple[str, ...]]:
    """KL(Q ‖ P) with its uncertainty on the safe side, the δ that is left, and what to say of it.

    Rounding is added as it is. A sampling error, as of a stochastic log-determinant, enters as
    the upper end of its normal interval, which takes a tenth of δ.

    Raises:
        ValueError: an error of more than a tenth of the KL, which would leave nothing to certify.
    """
    kl, error = max(float(evidence.complexity), 0.0), float(evidence.error)
    if error <= _ROUNDING * max(evidence.n, kl):
        return kl + error, delta, ()
    if error > _TOO_UNCERTAIN * kl:
        raise ValueError(
            f"evidence must be surer: its error of {error:.3g} nats is more than a tenth of "
            f"KL = {kl:.4g} nats; compute it exactly, in float64 or with more probes"
        )
    share = 0.1 * delta
    reach = -float(torch.special.ndtri(torch.tensor(share, dtype=torch.float64)))
    note = (
        f"The KL is an estimate with a standard error of {error:.2g} nats: its upper end at "
        f"confidence {1 - share:g} went in, paid with that share of δ."
    )
    return kl + reach * error, delta - share, (note,)


def one_noise(posterior: ExactPosterior, b: int) -> Tensor | None:
    """σ² of one labelling; None where it differs between points."""
    noise: Tensor = posterior.noise  # type: ignore[attr-defined]
    batch = posterior.evidence.batch_shape
    if noise.shape != batch:
        return None
    return noise[b] if batch else noise


# --------------------------------------------------------------------------- inside


def _part(posterior: ExactPosterior, name: str, b: int) -> Tensor:
    value: Tensor = getattr(posterior, name)
    return value[b] if posterior.observed.batched else value


def _setting(posterior: ExactPosterior, name: str, b: int) -> Tensor | None:
    """A hyperparameter of one labelling, where it has it and it is one number."""
    try:
        value = _part(posterior, name, b)
    except (AttributeError, IndexError):
        return None
    return value if value.numel() == 1 else None


def _settings(posterior: ExactPosterior, b: int) -> dict[str, float]:
    """What there is to say of the hyperparameters of one labelling."""
    names = ("lengthscale", "decay", "order", "scale", "noise")
    found = {name: _setting(posterior, name, b) for name in names}
    return {name: float(value) for name, value in found.items() if value is not None}


def _shared(variance: Tensor) -> Tensor:
    """(n, C) variances that are the same for every output as (n, 1)."""
    first = variance[:, :1]
    if not torch.allclose(variance, first.expand_as(variance), rtol=1e-9, atol=0.0):
        raise ValueError(
            "the 0–1 loss of outputs whose noises differ has no one-dimensional integral; code "
            "the labels as one_hot, with one noise for all"
        )
    return first


def _owed(posterior: ExactPosterior, kind: Loss) -> set[str]:
    """Learnt hyperparameters that shape the prior or the loss, and so must be paid for."""
    owed = set(posterior.learnt)
    if kind.noise_free:
        owed -= {"noise"}
    if kind.scale_free and losses.is_trivial(posterior.prior_mean()):
        owed -= {"scale"}
    return owed


def _refusal(owed: set[str], kind: Loss) -> str:
    names = ", ".join(sorted(owed))
    entries = ", ".join(f'"{key}": [...]' for key, of in _GRIDS.items() if of in owed)
    free = "the noise" if kind.noise_free else "nothing"
    return (
        f"a certificate wants a prior and a loss chosen before the data, but {names} had been "
        f"learnt on them (of the hyperparameters {free} is free here). Pass grid={{{entries}}}, "
        "values stated beforehand: the posterior is recomputed at the nearest and the bound pays "
        "ln(#grid); or fit with them fixed; or search stated priors with "
        "bayesgen.pacbayes.certify, which can also learn them on a share of the data (split=)"
    )


def _rounded(
    posterior: ExactPosterior, b: int, grid: Mapping[str, Sequence[float]], owed: set[str]
) -> tuple[ExactPosterior, Payment]:
    """The posterior at the grid's points nearest to what was learnt, and what the grid costs."""
    if not isinstance(grid, Mapping) or not grid:
        raise ValueError(
            "grid must map hyperparameters to values stated beforehand, e.g. "
            f'{{"lengthscale": [1.0, 2.0, 4.0]}}, got {grid!r}'
        )
    moves, count = {}, 1
    for name, values in grid.items():
        _checks.one_of("grid", name, tuple(_GRIDS))
        now = _setting(posterior, name, b)
        if now is None:
            raise ValueError(
                f"grid names {name!r}, which is no single number of this posterior; search models "
                "with fixed priors with bayesgen.pacbayes.certify"
            )
        points = torch.as_tensor(values, dtype=torch.float64).reshape(-1)
        if not len(points) or not (torch.isfinite(points) & (points >= 0)).all():
            raise ValueError(f"grid[{name!r}] must hold positive numbers, got {values!r}")
        at = points[((points + 1e-300).log() - (now.double() + 1e-300).log()).abs().argmin()]
        moves[name] = int(at) if name == "order" else float(at)
        count *= len(points)
    left = owed - {_GRIDS[name] for name in grid}
    if left:
        raise ValueError(
            f"grid must also name what stands for {', '.join(sorted(left))}, which were learnt"
        )
    payment = Payment(f"one of {count} priors stated beforehand", math.log(count))
    return posterior.at(labelling=b, **moves), payment


def _of_laplace(posterior: Posterior, asked: Terms, loss: str, b: int) -> Certificate:
    """Of Laplace's Gaussian: the 0–1 loss of its draws."""
    if posterior.observed.batched:
        raise ValueError("a batch of labellings under Laplace: fit and certify them one by one")
    if loss != "zero_one":
        raise ValueError(
            f"loss={loss!r} is for Gaussian noise; the log loss of labels is unbounded: take "
            'loss="zero_one"'
        )
    kind = posterior.observed.kind
    if kind not in ("bernoulli", "softmax"):
        raise ValueError(f'loss="zero_one" wants class labels, got a {kind} likelihood')
    owed = set(posterior.learnt) - {"scale", "noise"}
    if owed:
        raise ValueError(
            f"a certificate wants a prior chosen before the data, but {', '.join(sorted(owed))} "
            'had been learnt on them; fit with hyperparameters="fixed" or ("scale",) at values '
            "stated beforehand"
        )
    y = posterior.observed.y[0]
    mean, variance = posterior.marginals()
    if kind == "bernoulli":
        return certificate(
            mean,
            variance,
            posterior.evidence,
            losses.zero_one(2 * y - 1),
            asked,
            settings={},
            posterior=posterior,
        )
    if asked.predictor == "vote":
        raise ValueError(
            'predictor="vote" wants outputs that are independent; softmax couples them'
        )
    from bayesgen.models.risk import DRAWS

    # Half of δ for the sampling of the risk, which is of independent draws at each point.
    half = asked.delta / 2
    risk = monte_carlo(posterior.gibbs_risk(), DRAWS * len(y), half)
    kl, delta, notes = sure_complexity(posterior.evidence, half)
    C = y.shape[-1]
    return Certificate(
        bound=float(asked.theorem.function(risk, kl + asked.paid, len(y), delta).clamp(max=1)),
        risk=float(risk),
        complexity=kl,
        delta=asked.delta,
        n=len(y),
        loss="0–1 loss",
        predictor="gibbs",
        theorem=asked.theorem.words,
        guessing=1 - 1 / C,
        notes=(
            f"The Gibbs risk is the upper end of an estimate from {DRAWS:,} draws a point, paid "
            "with half of δ.",
            *notes,
        ),
        posterior=posterior,
    )


def _oracle(
    posterior: ExactPosterior, b: int, asked: Terms, loss: str, constants: tuple[float, float]
) -> OracleBound:
    """The sub-gamma bound on the expected negative log-likelihood."""
    noise = one_noise(posterior, b)
    if loss != "nll" or noise is None:
        raise ValueError('subgamma is for loss="nll" with one noise for all points')
    if asked.predictor != "gibbs":
        raise ValueError('subgamma bounds the Gibbs risk: predictor must be "gibbs"')
    try:
        s2, c = (float(value) for value in constants)
    except (TypeError, ValueError):
        raise ValueError(f"subgamma must be the constants (s2, c), got {constants!r}") from None
    if posterior.learnt:
        raise ValueError(
            "subgamma wants everything fixed before the data, got "
            f"{', '.join(sorted(posterior.learnt))} learnt on them"
        )
    evidence = posterior.evidence[b] if posterior.observed.batched else posterior.evidence
    mean, variance = posterior.marginals(b)
    risk = losses.expected_nll(mean, variance, posterior.observed.y[b], noise)
    kl, delta, notes = sure_complexity(evidence, asked.delta)
    return OracleBound(
        bound=float(bounds.subgamma(risk, kl, evidence.n, s2, c, delta)),
        risk=risk,
        complexity=kl,
        delta=asked.delta,
        n=evidence.n,
        loss="negative log-likelihood",
        predictor="gibbs",
        theorem="Sub-gamma losses, Germain et al. (2016), corollary 5",
        settings={"s2": s2, "c": c, "noise": float(noise)},
        notes=(
            "The constants s² and c are those of the data's distribution: they take the true "
            "weights and noise to know.",
            *notes,
        ),
        posterior=posterior,
    )

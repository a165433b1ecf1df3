"""Certificates of fitted posteriors: checks, payments for learnt hyperparameters, tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bayesgen._internal import checks
from bayesgen.pacbayes import bounds
from bayesgen.pacbayes.certificates import losses
from bayesgen.pacbayes.certificates.assemble import certificate, sure_complexity
from bayesgen.pacbayes.certificates.certificate import Certificate, OracleBound, Statement
from bayesgen.pacbayes.certificates.grid import Grid, nearest
from bayesgen.pacbayes.certificates.laplace import of_laplace
from bayesgen.pacbayes.certificates.losses import Loss
from bayesgen.pacbayes.certificates.request import CertificateTerms, terms
from bayesgen.pacbayes.certificates.tuning import TunedSetting, TuningProblem, coarse, refine
from bayesgen.posterior.posterior import ExactPosterior, Posterior
from bayesgen.posterior.traced import pay, tuned as tuned_to_bound
from bayesgen.provenance import Payment, is_round, now, sources

# The learnt hyperparameter that each name in a grid stands for.
_GRIDS = {
    "lengthscale": "kernel",
    "scale": "scale",
    "noise": "noise",
    "decay": "decay",
    "order": "order",
}
# What may be tuned to a bound at no cost; the outputscale only where the loss allows it.
TUNED = frozenset({"scale", "noise"})


@dataclass(frozen=True)
class CertificateOptions:
    """The options of a certificate; `bayesgen.models.reporting.Certified` explains each."""

    delta: float
    loss: str
    bound: str
    predictor: str
    noise: str | None
    grid: Grid | None
    clip: Any
    subgamma: tuple[float, float] | None


def certify_posterior(
    posterior: Posterior, options: CertificateOptions, task: int | None
) -> Statement:
    """Compute the certificate of a posterior, or of one task of a batch."""
    loss, noise, grid = options.loss, options.noise, options.grid
    clip, subgamma = options.clip, options.subgamma
    asked = terms(options.delta, options.bound, options.predictor)
    if noise is not None:
        checks.one_of("noise", noise, ("tune", "keep"))
    batch = len(posterior.observed.y)
    if posterior.observed.batched and task is None:
        raise ValueError(f"task must be given, 0..{batch - 1}: the posterior is of a batch")
    posterior = posterior.task(task or 0)
    require_data_independence(posterior)
    terms_ = asked
    asked = terms_.paying(posterior.provenance.choices)
    if not isinstance(posterior, ExactPosterior):
        if subgamma is not None or grid is not None or noise == "tune":
            raise ValueError(
                "subgamma, grid and noise are for posteriors with Gaussian noise; under Laplace's "
                "approximation fit with the kernel fixed at a value stated beforehand"
            )
        return of_laplace(posterior, asked, loss)
    if subgamma is not None:
        return _oracle(posterior, asked, loss, subgamma)
    kind = losses.of(posterior.observed, loss, clip, one_noise(posterior))
    tuned = "noise" in posterior.learnt if noise is None else noise == "tune"
    if tuned and noise == "tune" and not kind.noise_free:
        raise ValueError(
            'noise="tune" needs a loss that does not depend on the noise, got loss="nll"'
        )
    owed = _owed(posterior, kind)
    if grid is not None:
        posterior = _rounded(posterior, grid, kind)
        asked = terms_.paying(posterior.provenance.choices)
        kind = losses.of(posterior.observed, loss, clip, one_noise(posterior))
    elif owed:
        raise ValueError(_refusal(posterior, owed, kind))
    if not tuned or not kind.noise_free:
        return statement(posterior, kind, asked)
    free_scale = kind.scale_free and losses.is_trivial(posterior.prior_mean())
    kept = None if free_scale else float(posterior.scale)  # type: ignore[attr-defined]
    problem = TuningProblem.of(
        posterior.spectrum(),
        posterior.prior_mean(),
        kind,
        asked.bound(posterior.observed.n),
        kept,
    )
    best = refine(problem, coarse(problem))
    names = TUNED if free_scale else TUNED - {"scale"}
    moved = tuned_to_bound(posterior.at(scale=best.scale, noise=best.noise), names)
    return tuned_certificate(problem, best, asked, moved)


def require_data_independence(posterior: Posterior) -> None:
    """Raise a ValueError if the prior used the data in a way that no payment covers."""
    if posterior.data_dependent:
        raise ValueError(
            "a certificate needs a prior chosen before the data, but the prior depends on "
            f"{posterior.data_dependent}"
        )


def tuned_certificate(
    problem: TuningProblem,
    best: TunedSetting,
    asked: CertificateTerms,
    posterior: Any,
    notes: tuple[str, ...] = (),
) -> Certificate:
    """The certificate at a setting of a tuning problem; `posterior` is the one at that setting."""
    scale, noise = (problem.offset.new_tensor(v) for v in (best.scale, best.noise))
    mean, variance = problem.marginals(scale, noise)
    settings = {"scale": best.scale, "noise": best.noise}
    free = (
        "The noise affects only the posterior, so tuning it to minimise this bound adds nothing to "
        "the bound."
    )
    if problem.scale is None:
        free = (
            "The noise affects only the posterior, and the 0–1 loss does not depend on the "
            "outputscale, so tuning both to minimise this bound adds nothing to the bound."
        )
    return certificate(
        mean,
        variance,
        problem.evidence(scale, noise),
        problem.loss,
        asked,
        settings=_settings(posterior) if isinstance(posterior, ExactPosterior) else settings,
        free=free,
        posterior=posterior,
        notes=notes,
    )


def statement(posterior: ExactPosterior, kind: Loss, asked: CertificateTerms) -> Certificate:
    """The certificate of one task's posterior as it is, with the KL from its Evidence."""
    mean, variance = posterior.marginals()
    return certificate(
        mean,
        variance,
        posterior.evidence,
        kind,
        asked,
        settings=_settings(posterior),
        posterior=posterior,
    )


def one_noise(posterior: ExactPosterior) -> Tensor | None:
    """Noise variance σ² of the one task, (), or None where it differs between points."""
    noise: Tensor = posterior.noise  # type: ignore[attr-defined]
    return None if noise.ndim else noise


# --------------------------------------------------------------------------- helpers


def _setting(posterior: ExactPosterior, name: str) -> Tensor | None:
    """A hyperparameter of the one task if it exists and is one number, else None."""
    value: Tensor | None = getattr(posterior, name, None)
    return value if value is not None and value.numel() == 1 else None


def _settings(posterior: ExactPosterior) -> dict[str, float]:
    """The scalar hyperparameters of the one task, by name."""
    names = ("lengthscale", "decay", "order", "scale", "noise")
    found = {name: _setting(posterior, name) for name in names}
    return {name: float(value) for name, value in found.items() if value is not None}


def _owed(posterior: ExactPosterior, kind: Loss) -> set[str]:
    """Learnt hyperparameters that affect the prior or the loss and must be paid for."""
    owed = set(posterior.provenance.unpaid)
    if kind.noise_free:
        owed -= {"noise"}
    if kind.scale_free and losses.is_trivial(posterior.prior_mean()):
        owed -= {"scale"}
    return owed


def _refusal(posterior: ExactPosterior, owed: set[str], kind: Loss) -> str:
    said = posterior.provenance.describe(sorted(owed))
    entries = ", ".join(f'"{key}": [...]' for key, of in _GRIDS.items() if of in owed)
    free = " (only the noise may be learnt here)" if kind.noise_free else ""
    payable = owed <= set(_GRIDS.values())
    pay = (
        f'Pass grid={{{entries}}} or grid="geometric", values stated beforehand: the posterior is '
        "recomputed at the nearest values, and the bound increases by ln(#grid); or fit"
        if payable
        else "Fit"
    )
    return (
        f"a certificate needs a prior and a loss chosen before the data, but {said}{free}. {pay} "
        "with fixed hyperparameters; or search stated priors with bayesgen.pacbayes.certify, which "
        "can also learn them on a share of the data (split=); or learn on other observations"
    )


def _rounded(posterior: ExactPosterior, grid: Grid, kind: Loss) -> ExactPosterior:
    """The posterior at the grid points nearest to the learnt values, with the grid's payment."""
    owed = _owed(posterior, kind)
    if grid == "geometric":
        grid = {name: "geometric" for name, of in _GRIDS.items() if of in owed}
        if not grid:
            raise ValueError('grid="geometric" needs a learnt hyperparameter, but all were fixed')
    if not isinstance(grid, Mapping) or not grid:
        raise ValueError(
            'grid must be "geometric" or map hyperparameters to values stated beforehand, e.g. '
            f'{{"lengthscale": [1.0, 2.0, 4.0]}}, got {grid!r}'
        )
    moves, nats, words = {}, 0.0, []
    for name, values in grid.items():
        checks.one_of("grid", name, tuple(_GRIDS))
        learnt = _setting(posterior, name)
        if learnt is None:
            raise ValueError(
                f"grid names {name!r}, which is not a single number for this posterior; search "
                "models with fixed priors with bayesgen.pacbayes.certify"
            )
        point = nearest(name, values, float(learnt))
        _check_stated(posterior, name, point.value)
        moves[name] = int(point.value) if name == "order" else point.value
        nats += point.nats
        words.append(point.words)
    left = owed - {_GRIDS[name] for name in grid}
    if left:
        raise ValueError(
            f"grid must hold an entry for every learnt hyperparameter: {', '.join(sorted(left))} "
            "is missing"
        )
    moved = posterior.at(**moves)
    choice = Payment(f"{' and '.join(words)}, stated beforehand", nats)
    pay(moved, {_GRIDS[name] for name in grid}, choice)
    still = _owed(moved, kind)
    if still:
        raise ValueError(_refusal(moved, still, kind))
    return moved


def _check_stated(posterior: ExactPosterior, name: str, value: float) -> None:
    """Check that a point of a grid is not the learnt value itself, unless it is a round number."""
    data = posterior.provenance.data
    if name == "order" or data is None or is_round(value):
        return
    if sources({_GRIDS[name]: [value]}, data, now()):
        raise ValueError(
            f"grid[{name!r}] must hold values stated beforehand, got {value:.6g}, which was learnt "
            "from the data"
        )


def _oracle(
    posterior: ExactPosterior,
    asked: CertificateTerms,
    loss: str,
    constants: tuple[float, float],
) -> OracleBound:
    """The sub-gamma bound on the expected negative log-likelihood."""
    noise = one_noise(posterior)
    if loss != "nll" or noise is None:
        raise ValueError('subgamma is for loss="nll" with one noise for all points')
    if asked.predictor != "gibbs":
        raise ValueError('subgamma bounds the Gibbs risk: predictor must be "gibbs"')
    try:
        s2, c = (float(value) for value in constants)
    except (TypeError, ValueError):
        raise ValueError(f"subgamma must be the constants (s2, c), got {constants!r}") from None
    found = posterior.provenance
    if found.unpaid or found.choices:
        said = found.describe(sorted(found.unpaid)) or found.choices[0].reason
        raise ValueError(f"subgamma needs every hyperparameter fixed before the data, but {said}")
    evidence = posterior.evidence
    mean, variance = posterior.marginals()
    risk = losses.expected_nll(mean, variance, posterior.observed.y[0], noise)
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
            "The constants s² and c depend on the distribution of the data: only the true weights "
            "and noise determine them.",
            *notes,
        ),
        posterior=posterior,
    )

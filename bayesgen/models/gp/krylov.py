"""Fit Gaussian processes to more points than a dense spectrum allows, by block Lanczos."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayesgen._internal import files
from bayesgen._internal.hashing import fingerprint
from bayesgen._internal.progress import Progress
from bayesgen.covariance import distributed
from bayesgen.covariance.gram import KernelGram, LengthscaleGram, gram
from bayesgen.covariance.tiled import TiledGram, add
from bayesgen.evidence import Evidence, better, combine
from bayesgen.models.gp import gradient_search, lengthscale_search, tiled_cholesky
from bayesgen.models.gp.problem import GPSetting, Problem, zero_mean
from bayesgen.models.hyperparameters import Free
from bayesgen.models.profile_search import ProfileMaximum
from bayesgen.posterior.posterior import Observed
from bayesgen.solvers import Plan
from bayesgen.spectrum.evidence import logdet_error, quadratic
from bayesgen.spectrum.krylov_rules import LANCZOS_RELATION
from bayesgen.spectrum.spectrum import Spectrum
from bayesgen.verify import Check

# Number of points in the subset on which the length-scale is searched first.
_SUBSET = 4000
# Number of points of the subset on which several kernel parameters are searched.
_FOR_SEVERAL = 2000
# Step of log ℓ in the search on all points.
_STEP = 0.5 * math.log(2.0)
# Number of random probes, and largest number of products with the operator.
_PROBES, _PRODUCTS = 48, 16
# Version of the files' layout.
_LAYOUT = 5
# Error of a task's evidence, in nats for each of its n·C targets, at which block Lanczos stops.
_TOLERANCE = 5e-5


@dataclass(frozen=True)
class Search:
    """Settings of a large fit.

    Attributes:
        plan: engine, storage and dtype of the Gram matrix.
        most: largest number of length-scales.
        folder: folder for finished tiles and blocks, or None to write nothing.
        progress: called as progress(done, expected, what).
    """

    plan: Plan
    most: int
    folder: Path | None
    progress: Progress | None


@dataclass(frozen=True)
class KrylovFound:
    """Hyperparameters of each task, with the evidence and the solve at them.

    Attributes:
        theta: kernel parameters, (B, p).
        scale: outputscale s, (B,).
        noise: noise variance σ², (B,).
        alpha: (sK + σ²I)⁻¹y, (B, n, C).
        evidence: the `Evidence`, batch shape (B,).
        at_bound: whether the optimum lies on the edge of the searched range, (B,).
        spectra: number of spectra that were computed.
        quadratic: the value of yᵀ(sK + σ²I)⁻¹y in the evidence, (B,).
        logdet_error: the part of the evidence's error due to the log-determinant, (B,).
        off: bound on the Frobenius norm of the off-diagonal part of (sK + σ²I)⁻¹, (B,).
        relation: the largest failure of the Lanczos relation, relative and as allowed, (2,).
    """

    theta: Tensor
    scale: Tensor
    noise: Tensor
    alpha: Tensor
    evidence: Evidence
    at_bound: Tensor
    spectra: int
    quadratic: Tensor
    logdet_error: Tensor
    off: Tensor
    relation: Tensor

    @property
    def checks(self) -> tuple[Check, ...]:
        """The check of the block Krylov spaces."""
        difference, allowed = self.relation.tolist()
        return (Check(LANCZOS_RELATION, difference, allowed),)


def fit(
    matrices: KernelGram,
    y: Tensor,
    free: Free,
    scale: Tensor,
    noise: Tensor,
    search: Search,
) -> KrylovFound:
    """Find the hyperparameters of largest evidence for each task, from a few Krylov spectra.

    A kernel with other free parameters than one length-scale is fitted on 2,000 of the points for
    each task (see `gradient_search`). On all points, scale and noise are fitted at what was found.
    A free length-scale is first searched by dense spectra on 4,000 of the points. On all points, it
    is then tried near the best ones of the tasks there, and at steps of √2 outwards, as long as
    some task gains.

    Where the Gram matrix is float32, the quadratic forms are corrected at the end to those of the
    float64 matrix by the residuals of the solves. The distance between the two matrices bounds the
    effect on the log-determinant. With engine "cholesky", the exact evidence is then computed at
    the hyperparameters found (see `bayesgen.models.gp.tiled_cholesky`).

    Args:
        matrices: kernel on the inputs.
        y: targets less the prior mean, (B, n, C).
        free: which hyperparameters are learnt.
        scale: outputscale to keep where it is not learnt, (B,).
        noise: noise variance to keep where it is not learnt, (B,).
        search: settings of the fit.
    """
    theta = matrices.start()
    # A process that finds its work on disk would skip the steps that the others wait for.
    if distributed.active():
        search = replace(search, folder=None)
    mark = fingerprint(
        matrices.x, y, matrices.base, theta.tolist(), free, float(scale[0]), float(noise[0]),
        search.plan.dtype, _LAYOUT,
    )  # fmt: skip
    shelf = _Shelf(search.folder, mark)
    learn = free.kernel and len(theta) > 0
    keep_scale, keep_noise = (
        None if f else v for f, v in ((free.scale, scale), (free.noise, noise))
    )
    dtype = getattr(torch, search.plan.dtype)
    inner = gram(copy.deepcopy(matrices.base).to(dtype), matrices.x.to(dtype))
    targets = y.to(dtype)

    def at(t: Tensor) -> KrylovFound:
        def make() -> dict[str, Tensor]:
            return _at(inner, targets, t.to(dtype), keep_scale, keep_noise, search, shelf.mark)

        return _found(shelf.get(_where(t), make), t, targets)

    if not learn:
        best = at(theta)
    elif isinstance(matrices, LengthscaleGram):
        one = matrices

        def centres() -> Tensor:
            return _on_subset(one, y, keep_scale, keep_noise)

        enough = _TOLERANCE * y[0].numel()
        limits = lengthscale_search.searched(matrices, noise_is_kept=keep_noise is not None)
        best = _along(at, shelf.get("subset", centres).tolist(), search.most, theta, enough, limits)
    else:

        def several() -> Tensor:
            return _several_on_subset(matrices, y, free, scale, noise)

        first, *others = shelf.get("subset", several)[: search.most]
        best = at(first)
        for other in others:
            best = _better(best, at(other))
    if search.plan.engine == "cholesky":
        made = tiled_cholesky.evidence(
            matrices, y, best.theta, best.scale, best.noise, shelf.get, search.progress
        )
        if made is not None:
            return replace(best, theta=best.theta.to(y), evidence=made[0], alpha=made[1])
    if dtype != y.dtype:
        best = _checked(matrices, inner, y, best, search.progress)
    return replace(best, theta=best.theta.to(y), alpha=best.alpha.to(y))


def _along(
    at: Callable[[Tensor], KrylovFound],
    centres: list[float],
    most: int,
    like: Tensor,
    enough: float,
    limits: tuple[float, float],
) -> KrylovFound:
    """The best length-scale of each task, searched outwards from some centres.

    Args:
        at: function from kernel parameters to the `KrylovFound` at them.
        centres: first values of log ℓ; the first of them serves the most tasks.
        most: largest number of length-scales.
        like: tensor whose dtype and device the parameters take.
        enough: gain of a task, in nats, that lets the search continue in one direction.
        limits: ends of the searched range of log ℓ.
    """
    low, high = limits
    best = at(like.new_tensor([centres[0]]))
    for centre in centres[1:most]:
        best = _better(best, at(like.new_tensor([centre])))
    for direction in (1, -1):
        for step in range(1, most):
            if best.spectra >= most:
                break
            moved = centres[0] + direction * step * _STEP
            inside = min(max(moved, low), high)
            if abs(inside - moved) >= _STEP:
                break
            new = at(like.new_tensor([inside]))
            gain = new.evidence.log_marginal_likelihood - best.evidence.log_marginal_likelihood
            best = _better(best, new)
            if not (gain > enough).any():
                break
    return best


def _better(old: KrylovFound, new: KrylovFound) -> KrylovFound:
    pick = better(old.evidence, new.evidence)
    return KrylovFound(
        pick(old.theta, new.theta),
        pick(old.scale, new.scale),
        pick(old.noise, new.noise),
        pick(old.alpha, new.alpha),
        combine(pick, old.evidence, new.evidence),
        pick(old.at_bound, new.at_bound),
        old.spectra + new.spectra,
        pick(old.quadratic, new.quadratic),
        pick(old.logdet_error, new.logdet_error),
        pick(old.off, new.off),
        torch.maximum(old.relation, new.relation),
    )


def _on_subset(
    matrices: LengthscaleGram, y: Tensor, scale: Tensor | None, noise: Tensor | None
) -> Tensor:
    """Values of log ℓ near the best one of each task on a subset of the points, (k,).

    The first is the median of the largest group of tasks that one length-scale can serve.
    """
    n = len(matrices.x)
    some = torch.randperm(n, generator=torch.Generator().manual_seed(0))[:_SUBSET]
    small = gram(matrices.base, matrices.x[some])
    assert isinstance(small, LengthscaleGram)
    found: ProfileMaximum = lengthscale_search.search_lengthscale(
        small,
        y[:, some],
        scale=scale,
        noise=noise,
        tolerance=1e-2 * len(some),
        most=12,
        progress=None,
    )
    rest, centres = found.parameter.sort().values, []
    while len(rest):
        near = (rest[:, None] - rest).abs() <= 2 * _STEP
        group = near[int(near.sum(1).argmax())]
        centres.append(rest[group].median())
        rest = rest[~group]
    return torch.stack(centres)


def _several_on_subset(
    matrices: KernelGram, y: Tensor, free: Free, scale: Tensor, noise: Tensor
) -> Tensor:
    """Distinct kernel parameters of largest evidence of each task on a subset, (k, p)."""
    n = len(matrices.x)
    some = torch.randperm(n, generator=torch.Generator().manual_seed(0))[:_FOR_SEVERAL]
    part = y[:, some]
    given = GPSetting(matrices.start(), scale[0], noise[:1, None, None])
    small = matrices.on(matrices.x[some])
    problem = Problem(small, Observed.real(part), part, zero_mean, given, free)
    found = [m.modes[0].point[: len(given.theta)] for m in gradient_search.search(problem)]
    return torch.unique(y.new_tensor(np.stack(found)), dim=0)


def _at(
    inner: KernelGram,
    y: Tensor,
    theta: Tensor,
    scale: Tensor | None,
    noise: Tensor | None,
    search: Search,
    data: str,
) -> dict[str, Tensor]:
    """The fields of `KrylovFound` at one setting of the kernel, as a dictionary to save."""
    report, where = search.progress, _where(theta)
    mark = f"{where} {data} {inner.x.dtype}"

    def making(done: int, expected: int, what: str) -> None:
        if report is not None:
            report(done, expected, f"{what} at {where}")

    def multiplied(done: int) -> None:
        if report is not None:
            report(done, max(done, _PRODUCTS), f"product {done} at {where}")

    op: Any
    folder = search.folder
    if distributed.active():
        op = distributed.ShardedGram(inner, theta, progress=making)
    else:
        op = TiledGram(inner, theta, search.plan.storage, folder=folder, mark=mark, progress=making)
    spectrum = Spectrum.krylov(
        op,
        y,
        probes=_PROBES,
        steps=_PRODUCTS,
        tolerance=_TOLERANCE * y[0].numel(),
        folder=None if folder is None else folder / "blocks",
        mark=mark,
        progress=multiplied,
    )
    top = spectrum.maximise(scale, noise)
    e, s, v = top.evidence, top.scale[:, None], top.noise[:, None]
    return {
        "scale": top.scale,
        "noise": top.noise,
        "alpha": spectrum.solve(top.scale, top.noise),
        "at_bound": top.at_bound,
        "quadratic": quadratic(spectrum, s, v),
        "logdet_error": logdet_error(spectrum, s, v),
        "off": _off_diagonal(spectrum, s, v),
        "relation": torch.tensor(
            [[check.difference, check.allowed] for check in spectrum.checks], dtype=torch.float64
        ).amax(0),
        "evidence": torch.stack([e.fit, e.complexity, e.effective_dimension, e.error]),
        "method": torch.tensor(list(e.method.encode())),
    }


def _found(parts: dict[str, Tensor], theta: Tensor, y: Tensor) -> KrylovFound:
    fit_part, complexity, dof, error = parts["evidence"]
    method = bytes(parts["method"].tolist()).decode()
    return KrylovFound(
        theta.to(y).expand(len(y), -1),
        parts["scale"],
        parts["noise"],
        parts["alpha"].to(y),
        Evidence(fit_part, complexity, y.shape[1], dof, error=error, method=method),
        parts["at_bound"],
        1,
        parts["quadratic"],
        parts["logdet_error"],
        parts["off"],
        parts["relation"],
    )


def _off_diagonal(spectrum: Spectrum, scale: Tensor, noise: Tensor) -> Tensor:
    """Bound √(‖A⁻¹‖²_F − (tr A⁻¹)²/n) on the norm of the off-diagonal part of A⁻¹, (B,).

    It holds because the diagonal has a squared norm of at least (tr A⁻¹)²/n.
    """
    mean = spectrum.density.integrate(lambda v: 1 / (scale * v + noise)) / spectrum.n
    # The sum of squares about the mean avoids cancellation.
    return (
        spectrum.density.integrate(lambda v: (1 / (scale * v + noise) - mean[:, None]).square())
        .clamp(min=0)
        .sqrt()
    )


def _checked(
    matrices: KernelGram,
    inner: KernelGram,
    y: Tensor,
    found: KrylovFound,
    progress: Progress | None,
) -> KrylovFound:
    """Correct the quadratic forms to those of the matrix in y's dtype, and add to the errors.

    The matrix is computed once more in tiles, in both dtypes.

    Args:
        matrices: kernel on the inputs in y's dtype.
        inner: kernel on the inputs in the dtype of the fit.
        y: targets less the prior mean, (B, n, C).
        found: result of the fit.
        progress: called as progress(done, expected, what).
    """
    quadratic, error = torch.zeros_like(found.scale), found.logdet_error.clone()
    distinct, which = torch.unique(found.theta, dim=0, return_inverse=True)
    n, C = y.shape[1:]
    for k, theta in enumerate(distinct):
        of = (which == k).nonzero()[:, 0]
        alpha = found.alpha[of].to(y)
        columns = alpha.movedim(0, 1).reshape(n, -1)
        product, gap, own = torch.zeros_like(columns), 0.0, 0.0
        exact = TiledGram(matrices, theta.to(y), "none")
        rough = TiledGram(inner, theta, "none")
        pairs = zip(exact.tiles(), rough.tiles(), strict=True)
        for (start, tile), (_, other) in pairs:
            add(product, start, tile, columns)
            rows = len(tile)
            off = (tile - other.to(tile)).square()
            diagonal = float(off.diagonal().sum())
            gap += float(2 * off.sum() - off[:, :rows].sum()) - diagonal
            own += diagonal
            if progress is not None:
                progress(start + rows, n, f"check in {y.dtype} at {_where(theta)}")
        s, noise = found.scale[of, None, None], found.noise[of, None, None]
        spread = s * product.reshape(n, len(of), C).movedim(1, 0) + noise * alpha
        residual = y[of] - spread
        # For any α, yᵀA⁻¹y = yᵀα + rᵀα + rᵀA⁻¹r with 0 ≤ rᵀA⁻¹r ≤ ‖r‖²/σ²; take the middle.
        half = 0.5 * (residual.square() / noise).sum((1, 2))
        quadratic[of] = ((y[of] + residual) * alpha).sum((1, 2)) + half
        # Bound on |tr A⁻¹δK|: the off-diagonal part, then the diagonal, where δK is nearly 0.
        there = found.off[of] * max(gap, 0.0) ** 0.5 + n**0.5 / found.noise[of] * own**0.5
        error[of] += 0.5 * (half + C * found.scale[of] * there)
    e = found.evidence
    fit = e.fit - 0.5 * (quadratic - found.quadratic)
    return replace(found, evidence=replace(e, fit=fit, error=error), quadratic=quadratic)


def _where(theta: Tensor) -> str:
    if not len(theta):
        return "the given kernel"
    if len(theta) == 1:
        return f"length-scale {float(theta[0].exp()):.4g}"
    return f"kernel {fingerprint(theta.tolist())[:12]}"


class _Shelf:
    """Finished results in files of a folder; without a folder nothing is kept."""

    def __init__(self, folder: Path | None, mark: str) -> None:
        self.folder, self.mark = folder, mark

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        """The result kept under a name, or else the result of make(), which is then kept."""
        if self.folder is None:
            return make()
        path = self.folder / f"{name} {self.mark}.pt"
        kept = files.saved(path)
        if kept is not None:
            return kept
        made = make()
        files.writable(self.folder)
        files.write(path, lambda p: torch.save(made, p))
        return made

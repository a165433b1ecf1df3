"""Functions that compute the fields of a `Spectrum` from eigenpairs, a factor, or an operator.

Each function returns a dictionary from field names of `Spectrum` to values.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bayesgen import solvers
from bayesgen._internal import checks
from bayesgen.solvers import lanczos
from bayesgen.solvers.quadrature import Measure
from bayesgen.spectrum.control_variates import calibrate, moments
from bayesgen.spectrum.decomposition import METHODS, Rounding
from bayesgen.spectrum.quadrature_bracket import Bracket


def of_basis(values: Tensor, vectors: Tensor, n: int, y: Tensor | None) -> dict[str, Any]:
    """Fields of `Spectrum.of_basis`: exact measures from m ≤ n eigenpairs."""
    missing = n - len(values)
    ones = torch.ones_like(values)
    density = Measure(values, ones)
    if missing:
        density = Measure(
            torch.cat([values, values.new_zeros(1)]),
            torch.cat([ones, ones.new_full((1,), missing)]),
        )
    if y is None:
        return {"density": density, "targets": None, "outputs": 0, "vectors": vectors}
    batch = y.shape[:-2] if y.ndim == 3 else y.shape[:0]
    y = y.reshape(-1, n, 1 if y.ndim == 1 else y.shape[-1])
    columns = y.movedim(0, 1).reshape(n, -1)
    coefficients = vectors.mT @ columns
    projections = coefficients.reshape(-1, len(y), y.shape[-1]).movedim(0, 1)
    weights = projections.square().sum(-1)
    if missing:
        # Weight of the targets outside the span of the features. It is computed from the residual
        # because a difference of squares would cancel.
        rest = (columns - vectors @ coefficients).square().sum(0)
        rest = rest.reshape(len(y), y.shape[-1]).sum(-1, keepdim=True)
        weights = torch.cat([weights, rest], -1)
    return {
        "density": density,
        "targets": Measure(density.nodes, weights.reshape(*batch, -1)),
        "outputs": y.shape[-1],
        "vectors": vectors,
        "projections": projections,
        "y": y,
    }


def of_factor(
    R: Tensor, n: int, projections: Tensor | None, dropped: Tensor | None
) -> dict[str, Any]:
    """Fields of `Spectrum.reduced`: measures from a triangular factor R."""
    vectors, singular, _ = torch.linalg.svd(R, full_matrices=False)
    rounding = Rounding(root=n**0.5 * torch.finfo(R.dtype).eps * float(singular[0]))
    spare = n - len(singular)
    zeros, ones = singular.new_zeros(min(spare, 1)), torch.ones_like(singular)
    nodes = torch.cat([singular.square(), zeros])
    density = Measure(nodes, torch.cat([ones, zeros + spare]))
    fields: dict[str, Any] = {"density": density, "method": METHODS["svd"], "rounding": rounding}
    if projections is None or dropped is None:
        return {**fields, "targets": None, "outputs": 0}
    weights = (vectors.mT @ projections).square().sum(-1)
    weights = torch.cat([weights, dropped[:, None]], -1) if spare else weights
    return {**fields, "targets": Measure(nodes, weights), "outputs": projections.shape[-1]}


def of_operator(op: Any, y: Any, probes: int, steps: int, seed: int) -> dict[str, Any]:
    """Fields of `Spectrum.lanczos`: measures by Lanczos quadrature."""
    multiply, n, like = lanczos.operator(op)
    count = checks.whole("probes", probes, 2)
    k = min(checks.whole("steps", steps), n)
    found = lanczos.tridiagonalise(multiply, lanczos.probes(n, count, seed, like), k)
    each = found.gauss()
    fields: dict[str, Any] = {
        "density": Measure(each.nodes.reshape(-1), each.weights.reshape(-1) / count),
        "n": n,
        "targets": None,
        "outputs": 0,
        "method": f"Lanczos quadrature, {count} probes of {k} steps",
        "rounding": Rounding(
            matrix=solvers.rounding_norm(n, float(each.nodes.abs().max()), like.dtype)
        ),
        "probes": each,
    }
    if y is None:
        return fields
    y = checks.targets("y", y, n, like=like)
    batch = y.shape[:-2] if y.ndim == 3 else y.shape[:0]
    outputs = 1 if y.ndim == 1 else y.shape[-1]
    columns = y.reshape(-1, n, outputs).movedim(0, 1).reshape(n, -1)
    loads = lanczos.tridiagonalise(multiply, columns, k)
    gauss, radau = (
        Measure(rule.nodes.reshape(*batch, -1), rule.weights.reshape(*batch, -1))
        for rule in (loads.gauss(), loads.radau(0.0))
    )
    return {**fields, "targets": between(gauss, radau), "upper": radau, "outputs": outputs}


@dataclass(frozen=True)
class KrylovSettings:
    """Settings of `Spectrum.krylov`, with the method that runs it.

    The attributes are the arguments of `Spectrum.krylov`.
    """

    probes: int
    steps: int
    tolerance: float | None
    seed: int
    folder: Path | None
    mark: str
    progress: Callable[[int], None] | None

    def fields(self, op: Any, y: Any, error: Callable[[dict[str, Any]], Tensor]) -> dict[str, Any]:
        """Run block Lanczos and return the fields of the spectrum.

        Args:
            op: the operator, (n, n).
            y: targets, (n,), (n, C) or (B, n, C).
            error: function of the fields that returns the error of each task's evidence, which is
                compared with the tolerance.
        """
        multiply, n, like = lanczos.operator(op)
        checks.whole("probes", self.probes, 2)
        checks.whole("steps", self.steps)
        y = checks.targets("y", y, n, like=like)
        outputs = 1 if y.ndim == 1 else y.shape[-1]
        columns = y.reshape(-1, n, outputs).movedim(0, 1).reshape(n, -1)
        start = torch.cat([columns, lanczos.probes(n, self.probes, self.seed, like)], 1)
        # Evaluated after the first product, because the operator may compute the moments during it.
        known = functools.cache(lambda: moments(op))

        def enough(space: solvers.Krylov) -> bool:
            found = error(measures(space, n, y, self.probes, known()))
            return bool(found.max() <= (self.tolerance or 0))

        space = solvers.block_lanczos(
            multiply,
            start,
            self.steps,
            enough=None if self.tolerance is None else enough,
            folder=self.folder,
            mark=self.mark,
            progress=self.progress,
        )
        loads = space.coordinates()[:, : -self.probes]
        return {
            **measures(space, n, y, self.probes, known()),
            "vectors": space.ritz(),
            "projections": loads.reshape(len(loads), -1, outputs).movedim(1, 0),
        }


# A Ritz pair whose residual is within this fraction of its value counts as an eigenpair.
_CONVERGED = 0.01


def measures(
    space: solvers.Krylov,
    n: int,
    y: Tensor,
    probes: int,
    known: tuple[float, float, float] | None,
) -> dict[str, Any]:
    """Fields of `Spectrum.krylov` except the vectors and projections that solves need.

    The space was started from the columns of y followed by the probes. The trace Σ f(λᵢ) has two
    parts. The converged Ritz vectors V contribute f(θᵢ) each, without sampling. The rest is
    estimated by the probes after projection, (I − VVᵀ)z, scaled to the n − |V| remaining
    dimensions (deflation: Gambhir, Stathopoulos & Orginos 2017) and calibrated on the known
    moments.

    Args:
        space: the Krylov space.
        n: order of the operator.
        y: targets, (n,), (n, C) or (B, n, C).
        probes: q, the number of probes; they are the last columns of the start.
        known: (n, tr K, ‖K‖²_F), or None where they are unknown.
    """
    batch = y.shape[:-2] if y.ndim == 3 else y.shape[:0]
    outputs = 1 if y.ndim == 1 else y.shape[-1]
    coordinates = space.coordinates()
    loads, random = coordinates[:, :-probes], coordinates[:, -probes:]
    kept = space.residuals() <= _CONVERGED * space.values
    random = random.masked_fill(kept[:, None], 0)
    mass, left = random.square().sum(0), n - int(kept.sum())
    tiny = torch.finfo(y.dtype).eps * n  # below this, only rounding error is left
    random = random * torch.where(mass > tiny, left / mass.clamp(min=tiny), 0).sqrt()
    nodes, around = space.radau(0.0)
    nodes = nodes.clamp(min=0)
    values = space.values.clamp(min=0)
    own = kept.to(values)

    def of_targets(columns: Tensor) -> Tensor:
        each = columns.square().reshape(len(columns), -1, outputs).sum(-1)
        return each.mT.reshape(*batch, -1)

    def of_probes(columns: Tensor) -> Tensor:
        return columns.square().sum(1)

    sampled = random.square().mT
    other = (around.mT @ (space.vectors @ random)).square().mean(1)
    # Gauss and Gauss–Radau rules share these moments, so calibration changes both by the same sum.
    change, doubt = torch.zeros_like(values), None
    if known is not None and left:
        exact, unsure = _rest(space, kept, random, known, torch.finfo(y.dtype).eps)
        told, off = calibrate(values, sampled, exact, unsure)
        change, sampled, doubt = (told - sampled).mean(0), told, Measure(values, off)
    each = Measure(values.expand(probes, -1), sampled + own)
    columns = y.reshape(-1, n, outputs)
    radau = Measure(torch.cat([values, nodes]), torch.cat([own + change, other]))
    density = between(Measure(values, each.weights.mean(0)), radau)
    upper = Measure(nodes, of_targets(around.mT @ (space.vectors @ loads)))
    earlier = space.before()
    brackets = {}
    if earlier is not None:
        first = earlier.radau(0.0)
        for name, some, weigh in (
            ("targets_bracket", slice(None, -probes), of_targets),
            ("density_bracket", slice(-probes, None), of_probes),
        ):
            now = _rules(space, (nodes, around), some, weigh)
            brackets[name] = Bracket(*now, *_rules(earlier, first, some, weigh))
    return {
        **brackets,
        "density": density,
        "n": n,
        "targets": between(Measure(values, of_targets(loads)), upper),
        "outputs": outputs,
        "y": columns,
        "method": (
            f"block Lanczos, {len(space.values):,} dimensions from {coordinates.shape[1]} columns, "
            f"{probes} probes past {int(kept.sum()):,} deflated eigenvalues"
            + (", calibrated on tr K and ‖K‖²" if known is not None else "")
        ),
        # Each product has independent rounding errors of eps per entry; dropped directions add to
        # it.
        "rounding": Rounding(
            entries=torch.finfo(y.dtype).eps * float(density.integrate(torch.square)) ** 0.5
            + space.dropped
        ),
        "probes": each,
        "doubt": doubt,
        "radau": radau,
        "upper": upper,
        "spanned": True,
    }


def _rules(
    space: solvers.Krylov,
    radau: tuple[Tensor, Tensor],
    some: slice,
    weigh: Callable[[Tensor], Tensor],
) -> tuple[Measure, Measure]:
    """Gauss and Gauss–Radau rules of some starting columns, their weights combined by weigh()."""
    nodes, around = radau
    first, start = len(space.start), space.start[:, some]
    return (
        Measure(space.values.clamp(min=0), weigh(space.vectors[:first].mT @ start)),
        Measure(nodes.clamp(min=0), weigh(around[:first].mT @ start)),
    )


def between(gauss: Measure, radau: Measure) -> Measure:
    """Mean of the Gauss and the Gauss–Radau rule, the middle of the bracket they form.

    Once the two rules begin to converge, their errors have about the same size and opposite signs.
    The mean is then far more accurate than either rule (averaged rules: Laurie 1996).
    """
    return Measure(
        torch.cat([gauss.nodes, radau.nodes], -1),
        0.5 * torch.cat([gauss.weights, radau.weights], -1),
    )


def _rest(
    space: solvers.Krylov,
    kept: Tensor,
    random: Tensor,
    known: tuple[float, float, float],
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Moments that each probe's Gauss rule should have on (I − VVᵀ)K(I − VVᵀ), (q, 3).

    The moments of the converged Ritz vectors are subtracted from the known ones, with
    ‖KVx‖² = Σ (θᵢ² + ρᵢ²)xᵢ² for residuals ρ. A rule on the space omits the part of Kz outside the
    space, so that part is subtracted from the second moment as well.

    Returns:
        The moments, and the uncertainty of each by rounding, (3,).
    """
    values, rho = space.values.clamp(min=0)[kept], space.residuals()[kept]
    taken = torch.stack([kept.sum().to(values), values.sum(), (values**2 + rho**2).sum()])
    exact = (taken.new_tensor(known) - taken).repeat(random.shape[1], 1)
    tail = space.out @ (space.vectors[-space.out.shape[1] :] @ random)
    exact[:, 2] -= tail.square().sum(0)
    largest = float(space.values.max())
    # Every Ritz value has a rounding error of a few eps times the largest one.
    first = 4 * eps * largest * len(space.values) ** 0.5
    return exact, taken.new_tensor([eps * known[0], first, 8 * eps * largest * known[2] ** 0.5])

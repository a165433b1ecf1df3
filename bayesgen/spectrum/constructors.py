"""Functions that compute the fields of a `Spectrum` from eigenpairs, a factor, or an operator.

Each function returns a dictionary from field names of `Spectrum` to values.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bayesgen import solvers
from bayesgen._internal import checks
from bayesgen.solvers import lanczos
from bayesgen.solvers.quadrature import Measure, between
from bayesgen.spectrum.decomposition import METHODS, Rounding


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

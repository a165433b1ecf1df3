"""The choice between fast and direct Jacobian rows, by a comparison on a few observations.

Fast rows come from the inputs and outputs of layers. They assume that each parameter is used by
its own layer alone, that the first axis of a layer's input is the batch, and that the layer is
called as a module. A network that breaks an assumption is found by the comparison, and its rows
then come from plain reverse passes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from bayesgen import verify
from bayesgen.curvature import jacobian_rows
from bayesgen.curvature.direct_rows import direct_rows
from bayesgen.curvature.jacobian_rows import Part
from bayesgen.curvature.parameters import Weights
from bayesgen.networks.inputs import converted

# Number of observations whose rows are compared one by one.
_FEW = 3
_WHAT = "Jacobian rows of a few observations"


def rows(
    weights: Weights, x: Any, vectors: Tensor, parts: list[Part]
) -> Iterable[tuple[Part, Tensor]]:
    """Rows of vᵀJ for one batch, part by part, by the path that was chosen for these weights.

    Args:
        weights: weights of the network.
        x: inputs, (b, …).
        vectors: v of each observation, (b, C, K).
        parts: parts of the network whose columns are computed.

    Returns:
        The parts with their rows, (b, K, p).
    """
    if not weights.direct:
        try:
            return jacobian_rows.rows(weights, x, vectors, parts)
        except jacobian_rows.NoLayerRowsError:  # this batch runs through the layers otherwise
            pass
    return zip(parts, direct_rows(weights, x, vectors, parts), strict=True)


def choose(weights: Weights, x: Any, outputs: int) -> verify.Check:
    """Compare fast rows with direct ones and set `Weights.direct` to the layers that differ.

    For a random vector at each observation of one batch, rows of a few observations are compared
    with reverse passes through these alone, and the sum over the batch with one reverse pass.

    Args:
        weights: weights of the network, changed in place.
        x: inputs of one batch, (b, …).
        outputs: number of outputs C.
    """
    weights.direct = frozenset()
    found = _differences(weights, x, outputs)
    wrong = {name for name, check in found.items() if not check.passed}
    if wrong and weights.theta.dtype == torch.float32:
        # A unit at the kink of a ReLU may switch with the batch size in float32, but not in
        # float64.
        try:
            wide = weights.converted(torch.float64)
            again = _differences(wide, converted(x, torch.float64), outputs)
        except Exception:  # the network computes in float32 itself
            again = found
        wrong = {name for name, check in again.items() if not check.passed}
    weights.direct = frozenset(wrong)
    agreeing = [check.difference for name, check in found.items() if name not in wrong]
    allowed = next(iter(found.values())).allowed
    return verify.Check(_WHAT, max(agreeing, default=0.0), max([allowed, *agreeing]))


def _differences(weights: Weights, x: Any, outputs: int) -> dict[str, verify.Check]:
    """For each layer, the comparison of its rows."""
    b, theta = len(x), weights.theta
    v = verify.random_vector(b * outputs, theta).reshape(b, outputs, 1)
    few = verify.some_rows(b, _FEW).to(theta.device)
    every = [Part(leaf) for leaf in weights.leaves]
    alone = torch.cat(direct_rows(weights, x[few], v[few], every), -1)[:, 0]
    total = weights.vjp(x, v[..., 0])[torch.cat([p.index() for p in every]).to(theta.device)]
    eps = torch.finfo(theta.dtype).eps
    allowed, floor = eps**0.4, eps**0.3
    sizes = [part.leaf.size for part in every]
    direct = list(zip(alone.split(sizes, -1), total.split(sizes), strict=True))
    largest = [float(t.abs().max()) for t in (alone, total)]
    fast = jacobian_rows.tried(weights, x, v, every)
    result = {}
    for part, got, want in zip(every, fast, direct, strict=True):
        gap = float("inf")
        if got is not None:
            gap = 0.0
            pairs = zip((got[few, 0], got[:, 0].double().sum(0)), want, largest, strict=True)
            for value, right, top in pairs:
                size = float(right.abs().max()) + floor * top
                ratio = float((value.to(right) - right).abs().max()) / (size or 1.0)
                gap = gap if ratio <= gap else ratio  # keeps NaN
        result[part.leaf.name] = verify.Check(_WHAT, gap, allowed)
    return result

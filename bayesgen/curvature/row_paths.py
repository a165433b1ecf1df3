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
from bayesgen.curvature.direct_rows import alone, direct_rows
from bayesgen.curvature.jacobian_rows import Part
from bayesgen.curvature.parameters import Weights
from bayesgen.networks import admission
from bayesgen.networks.inputs import converted

# Number of observations that are run alone.
_ALONE = 2
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


def admit(weights: Weights, x: Any, f: Tensor) -> tuple[verify.Check, verify.Check]:
    """Check the network on a few observations, and choose the path of its Jacobian rows.

    Two observations are run alone, each with a reverse pass for a random vector. Their outputs are
    compared with those of a batch, and their rows with fast rows of all the observations given.
    `Weights.direct` becomes the set of layers whose rows differ.

    Args:
        weights: weights of the network, changed in place.
        x: some inputs, (m, …).
        f: their outputs as computed in a batch, (m, C).

    Raises:
        ValueError: the network is random, or mixes the observations of a batch.
    """
    v = verify.random_vector(f.numel(), weights.theta).reshape(*f.shape, 1)
    few = verify.some_rows(len(f), _ALONE, seed=2).to(f.device)
    rows_found: list[Tensor] = []

    def run() -> Tensor:
        outputs, found = alone(weights, x[few], v[few])
        rows_found.append(found)
        return outputs

    alike = admission.independent(weights.net, weights.evaluate, x[few], f[few], run)
    return alike, _choose(weights, x, v, few, rows_found[0])


def _choose(weights: Weights, x: Any, v: Tensor, few: Tensor, direct: Tensor) -> verify.Check:
    """Set `Weights.direct` by a comparison with direct rows (k, 1, P) of a few observations."""
    found = _differences(weights, x, v, few, direct)
    wrong = {name for name, check in found.items() if not check.passed}
    if wrong and weights.theta.dtype == torch.float32:
        # A unit at the kink of a ReLU may switch with the batch size in float32, but not in
        # float64.
        try:
            wide = weights.converted(torch.float64)
            x, v = converted(x, torch.float64), v.double()
            again = _differences(wide, x, v, few, alone(wide, x[few], v[few])[1])
        except Exception:  # the network computes in float32 itself
            again = found
        wrong = {name for name, check in again.items() if not check.passed}
    weights.direct = frozenset(wrong)
    agreeing = [check.difference for name, check in found.items() if name not in wrong]
    allowed = next(iter(found.values())).allowed
    return verify.Check(_WHAT, max(agreeing, default=0.0), max([allowed, *agreeing]))


def _differences(
    weights: Weights, x: Any, v: Tensor, few: Tensor, direct: Tensor
) -> dict[str, verify.Check]:
    """For each layer, the comparison of its rows with direct ones."""
    eps = torch.finfo(weights.theta.dtype).eps
    allowed, floor = eps**0.4, eps**0.3 * float(direct.abs().max())
    every = [Part(leaf) for leaf in weights.leaves]
    result = {}
    for part, got in zip(every, jacobian_rows.tried(weights, x, v, every), strict=True):
        gap = float("inf")
        if got is not None:
            want = direct[..., part.index().to(direct.device)]
            size = float(want.abs().max()) + floor
            gap = float((got[few] - want).abs().max()) / (size or 1.0)
        result[part.leaf.name] = verify.Check(_WHAT, gap, allowed)
    return result
